/** What keeps events from being lost or doubled, how each is taken away, and the tests that must notice. */

export type Defence = {
  name: string;
  /** What it defends against. */
  against: string;
  /** Text that stands exactly once in a file, and what takes its place. */
  changes: readonly { file: string; from: string; to: string }[];
  /** Test files of which at least one test must fail without it. */
  tests: readonly string[];
  /** Files of the fault suite of which one must as well: with `--faults`, as they take minutes. */
  faults?: readonly string[];
};

export const DEFENCES: readonly Defence[] = [
  {
    name: 'fence',
    against: 'a worker that lost its claim and finishes the entry all the same',
    changes: [
      {
        file: 'src/lib/scripts/settle.lua',
        from: "local claim = mine[outcome.id] and 'held' or restore_claim(prefix, source, group, consumer, outcome.event_id, outcome.id)",
        to: "local claim = 'held'",
      },
    ],
    tests: ['test/integration/runtime.test.ts'],
    faults: ['test/faults/stalls.test.ts'],
  },
  {
    name: 'heartbeat',
    against: 'an entry that another worker takes over while its own is at work',
    changes: [
      {
        file: 'src/lib/scripts/keep.lua',
        from: "redis.call('XCLAIM', KEYS[i], group, consumer, 0, unpack(part))",
        to: '',
      },
    ],
    tests: ['test/integration/runtime.test.ts'],
    faults: ['test/faults/stalls.test.ts'],
  },
  {
    name: 'append guard',
    against: 'a webhook that is sent twice',
    changes: [
      {
        file: 'src/lib/scripts/append.lua',
        from: 'if is_known and (not has_failed or has_made_entry(entry, ARGV[9])) then',
        to: 'if false then',
      },
    ],
    tests: ['test/integration/append.test.ts'],
    faults: ['test/faults/killed-ingest.test.ts'],
  },
  {
    name: 'names of deliveries',
    against: 'a delivery that is appended again after its event has failed',
    changes: [
      {
        file: 'src/lib/scripts/append.lua',
        from: '(not has_failed or has_made_entry(entry, ARGV[9]))',
        to: '(not has_failed)',
      },
    ],
    tests: ['test/integration/append.test.ts', 'test/integration/spool-repeats.test.ts'],
  },
  {
    name: 'cursor walk',
    against: "a dead worker's entries behind a page of others that are alive",
    changes: [
      {
        file: 'src/lib/scripts/reclaim.lua',
        from: "until cursor == '0-0' or scanned",
        to: "until true or cursor == '0-0' or scanned",
      },
      { file: 'src/lib/scripts/reclaim.lua', from: 'return { cursor, with_marks', to: "return { '0-0', with_marks" },
    ],
    tests: ['test/integration/reclaim-walk.test.ts'],
  },
  {
    name: 'isolation',
    against: 'an event that kills its worker, and its neighbours with it',
    changes: [
      {
        file: 'src/lib/scripts/common.lua',
        from: 'local SUSPECT_CRASHES = 2',
        to: 'local SUSPECT_CRASHES = 1000000',
      },
    ],
    tests: ['test/integration/isolation.test.ts'],
    faults: ['test/faults/poison.test.ts'],
  },
  {
    name: 'control of isolation',
    against: 'a storm that kills every worker, and the slow event that it is blamed on',
    changes: [
      {
        file: 'src/lib/scripts/note-start.lua',
        from: 'if control_ms > 0 then return -control_ms end',
        to: '',
      },
    ],
    tests: ['test/integration/isolation.test.ts', 'test/integration/restart-storm.test.ts'],
  },
  {
    name: 'note of a stop',
    against: 'a suspect that is let go, and blamed for the crash of the next in its slot',
    changes: [
      {
        file: 'src/lib/runtime/noted-calls.ts',
        from: '    if (item.isLetGo) await noteStopped(item);\n',
        to: '',
      },
    ],
    tests: ['test/integration/take-over.test.ts'],
  },
  {
    name: 'safe trim',
    against: 'a chain that is dropped although a group has not finished it',
    changes: [
      {
        file: 'src/lib/scripts/trim.lua',
        from: '  if verdict then return { verdict, 0 } end',
        to: '',
      },
      { file: 'src/lib/scripts/trim.lua', from: "if is_unended then return { 'unended', 0 } end", to: '' },
    ],
    tests: ['test/integration/trim.test.ts'],
    faults: ['test/faults/operations.test.ts'],
  },
  {
    name: 'deadline',
    against: 'a link that swallows everything and never ends',
    changes: [{ file: 'src/lib/redis.ts', from: '    socketTimeout: SILENCE_MS,\n', to: '' }],
    tests: ['test/integration/redis-connections.test.ts'],
    faults: ['test/faults/network.test.ts'],
  },
  {
    name: 'parked retries',
    against: 'a failing event that keeps its neighbours waiting',
    changes: [
      {
        file: 'src/lib/runtime/deliverer.ts',
        from: '    const isSettled = await settler.settle(entry, settlement);',
        to: "    const { kind } = settlement;\n    if (kind === 'park') await new Promise((end) => setTimeout(end, settlement.delayMs + 60_000));\n    const isSettled = await settler.settle(entry, settlement);",
      },
    ],
    tests: ['test/integration/runtime.test.ts'],
  },
  {
    name: 'pause of a provider',
    against: 'an outage that burns the attempts of every event',
    changes: [
      { file: 'src/lib/runtime/failure.ts', from: '  if (!inDoubt) return wait;', to: '' },
      {
        file: 'src/lib/runtime/failure.ts',
        from: '  const othersSucceed = otherSuccessAt > Math.max(record.doubtAt ?? Number.POSITIVE_INFINITY, pausedSince ?? 0);',
        to: '  const othersSucceed = true;',
      },
    ],
    tests: ['test/integration/outage.test.ts'],
  },
  {
    name: 'trying apart',
    against: 'an event that fails its batch, and neighbours that pay for it',
    changes: [
      {
        file: 'src/lib/runtime/deliverer.ts',
        from: 'together: retriesApart ? countAlike(outcomes, index) : 1',
        to: 'together: 1',
      },
    ],
    tests: ['test/integration/outage.test.ts'],
  },
  {
    name: 'lease of a lead',
    against: 'two workers that write one lead at once',
    changes: [
      {
        file: 'src/lib/scripts/lease-leads.lua',
        from: "(verb == 'take' and is_free)",
        to: "(verb == 'take')",
      },
    ],
    tests: ['test/integration/lead-ledger.test.ts', 'test/integration/lead-order.test.ts'],
  },
  {
    name: 'mark of what is done',
    against: 'an event that is handled again after a replay or an old copy of its entry',
    changes: [
      {
        file: 'src/lib/scripts/settle.lua',
        from: "    if outcome.mark then redis.call('SET', outcome.mark, '1', 'EX', outcome.ttl) end\n",
        to: '',
      },
    ],
    tests: ['test/integration/runtime.test.ts', 'test/integration/replay.test.ts', 'test/integration/trim.test.ts'],
  },
  {
    name: 'spool removes last',
    against: 'a spooled webhook that is taken out before Redis has it',
    changes: [
      {
        file: 'src/ingest/spool/drain.ts',
        from: '    const spoolId = spoolIdOf(record.seq);\n    try {',
        to: '    const spoolId = spoolIdOf(record.seq);\n    store.removeHead();\n    try {',
      },
      {
        file: 'src/ingest/spool/drain.ts',
        from: '    drained += 1;\n    store.removeHead();',
        to: '    drained += 1;',
      },
    ],
    tests: ['test/integration/spool.test.ts', 'test/integration/spool-disk.test.ts'],
  },
];
