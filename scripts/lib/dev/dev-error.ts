/** For the person who started `./scripts/dev`: printed without a stack. */
export class DevError extends Error {
  override readonly name = 'DevError';
}
