/** The last segment of a URI's path that is not empty. */
export function lastSegment(uri: string): string {
  const path = uri.split(/[?#]/, 1)[0]!.trim();
  // Not by a pattern: one for slashes at the end takes the square of their number where something follows them.
  let end = path.length;
  while (path[end - 1] === '/') end -= 1;
  return path.slice(path.lastIndexOf('/', end - 1) + 1, end);
}
