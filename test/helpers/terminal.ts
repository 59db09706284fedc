/** A command at a terminal of its own, as a person has one: `script` (Linux, macOS) lends it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { tmpdir } from 'node:os';

export type AtTerminal = {
  child: ChildProcess;
  /** All that was printed, on both outputs. */
  output: () => string;
  type: (text: string) => void;
  exited: Promise<number | null>;
};

/** Kill `child` when the test ends. */
export function startAtTerminal(command: readonly string[], env: Record<string, string | undefined>): AtTerminal {
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const args =
    process.platform === 'darwin' ? ['-q', '/dev/null', ...command] : ['--quiet', '-e', '-c', quoted, '/dev/null'];
  const child = spawn('script', args, { cwd: tmpdir(), env, stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { child, output: () => output, type: (text) => void child.stdin.write(text), exited };
}
