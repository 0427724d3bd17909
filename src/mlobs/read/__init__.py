"""Reading back: what the journals of a store say, as plain values and as pandas frames."""
