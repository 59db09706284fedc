import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readAuditReport } from '../../scripts/lib/audit-report.js';

const test = suite('audit report');

const report = (vulnerabilities: object) =>
  JSON.stringify({ auditReportVersion: 2, vulnerabilities, metadata: { vulnerabilities: { total: 0 } } });

test('without a vulnerable package it is clean', () => {
  assert.equal(readAuditReport(report({})), { kind: 'clean' });
});

test('each advisory is a line, told where it belongs', () => {
  const verdict = readAuditReport(
    report({
      leaf: {
        ...{ name: 'leaf', severity: 'high', range: '<1.2.3' },
        via: [{ title: 'Prototype pollution', url: 'https://github.com/advisories/GHSA-1' }, 'deeper'],
      },
      root: { name: 'root', severity: 'high', range: '*', via: ['leaf'] },
    }),
  );
  const line = 'high: leaf <1.2.3: Prototype pollution https://github.com/advisories/GHSA-1';
  assert.equal(verdict, { kind: 'advisories', lines: [line] });
});

for (const [name, text, why] of [
  ['a registry without the endpoint', JSON.stringify({ message: 'x', statusCode: 405, error: {} }), 'it answered 405'],
  ['a registry that is away', JSON.stringify({ message: 'reason: connect ECONNREFUSED ::1' }), 'ECONNREFUSED'],
  ['an npm that was ended', '', 'no answer in time'],
  ['half a report', '{"auditReportVersion":2,', 'no answer in time'],
  ['something else', '[]', 'no report'],
  ['nothing', 'null', 'no report'],
] as const) {
  test(`${name} is neither clean nor a failure`, () => {
    assert.equal(readAuditReport(text), { kind: 'unknown', why });
  });
}

test.run();
