import { type OpenFailure, readOpenFailures } from '../../src/lib/open-failures.js';
import { type Command, parseCommandLine } from './command.js';
import { formatTable } from './format.js';

/** What stands failed. Whom it concerns is told by `show`: a list is looked at, and handed on, by more people. */
export const failed: Command = {
  name: 'failed',
  redis: 'look',
  usage: 'failed',
  summary: 'what failed for good and was not redriven, newest first',
  async run(argv, { redis, keys, print }) {
    const { values } = parseCommandLine(failed, argv, {}, { isBare: true });
    const failures = (await readOpenFailures({ redis, keys })).map(withoutAddresses);
    if (values.json) {
      print(JSON.stringify(failures));
      return 0;
    }
    if (failures.length === 0) {
      print('Nothing stands failed.');
      return 0;
    }
    const rows = failures.map(({ at, eventId, group, attempts, error, replay }) => [
      at,
      eventId,
      group,
      attempts,
      error.code,
      replay === undefined ? error.message : `${error.message} (replay ${replay})`,
    ]);
    print(formatTable(['at', 'event', 'group', 'tries', 'code', 'message'], rows));
    print(`\nTry again: npm run -s gvi -- redrive <event…> or --all`);
    return 0;
  },
};

/** A message may name the lead by its address. */
function withoutAddresses({ error, ...failure }: OpenFailure): OpenFailure {
  const words = error.message.split(' ').map((word) => word.replace(/^[^@]*@[^:;,)]*/, '…'));
  return { ...failure, error: { ...error, message: words.join(' ') } };
}
