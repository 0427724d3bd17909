"""The sender: the lanes' host, in a process of its own, in a thread, or in the foreground."""
