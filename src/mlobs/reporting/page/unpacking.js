// What is packed into the page: gzip in Base64, unpacked by the browser itself.
async function unpacked(id) {
  const element = document.getElementById(id);
  const binary = atob(element.textContent);
  element.remove();
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// The page's policy knows the library by its hash, so this one script may be added.
async function startLibrary() {
  const script = document.createElement("script");
  script.textContent = await unpacked("packed-library");
  document.head.append(script);
  if (!window.Plotly) throw new Error("the plotting library did not start");
}
