import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { nameOf, type PersonName, splitName } from '../../src/consumers/enrich/names.js';

const splitting = suite('splitting a name');

const names: [string, PersonName][] = [
  ['Jane Doe', { firstName: 'Jane', lastName: 'Doe' }],
  ['Mary Ann Smith', { firstName: 'Mary Ann', lastName: 'Smith' }],
  ['Jane', { lastName: 'Jane' }],
  ['Doe, Jane', { firstName: 'Jane', lastName: 'Doe' }],
  ['van der Berg, Jan', { firstName: 'Jan', lastName: 'van der Berg' }],
  ['Jane Doe, PhD', { firstName: 'Jane', lastName: 'Doe' }],
  ['Jane Doe, Ph.D. M.B.A.', { firstName: 'Jane', lastName: 'Doe' }],
  ['Jane Doe, III', { firstName: 'Jane', lastName: 'Doe' }],
  ['Doe, Iviv', { firstName: 'Iviv', lastName: 'Doe' }],
  ['Jane Doe, MBA, PMP', { firstName: 'Jane', lastName: 'Doe' }],
  ['Acme, Inc.', { lastName: 'Acme, Inc.' }],
  ['Prof. Dr. Jane Doe', { firstName: 'Jane', lastName: 'Doe' }],
  ['Frau Laura Brandt', { firstName: 'Laura', lastName: 'Brandt' }],
  ['Ludwig van Beethoven', { firstName: 'Ludwig', lastName: 'van Beethoven' }],
  ['Maria de la Cruz', { firstName: 'Maria', lastName: 'de la Cruz' }],
  ['John Doe Jr.', { firstName: 'John', lastName: 'Doe Jr.' }],
  ['Zoë Æther-Nguyễn', { firstName: 'Zoë', lastName: 'Æther-Nguyễn' }],
  ['李小龍', { lastName: '李小龍' }],
  ['김 민수', { lastName: '김 민수' }],
  ['محمد صلاح', { lastName: 'محمد صلاح' }],
  ['Анна Каренина', { lastName: 'Анна Каренина' }],
];

for (const [name, want] of names)
  splitting(`${name} becomes ${JSON.stringify(want)}`, () => assert.equal(splitName(name), want));

const choosing = suite('choosing among what a form gives');

type Given = Partial<Record<'first' | 'last' | 'full', string>>;

const forms: [string, Given, PersonName][] = [
  [
    'first and last name win over the full one',
    { first: 'Omar', last: 'Haddad', full: 'O. H.' },
    { firstName: 'Omar', lastName: 'Haddad' },
  ],
  [
    'a first name alone takes its last name from the full one',
    { first: 'Omar', full: 'Omar El Haddad' },
    { firstName: 'Omar', lastName: 'El Haddad' },
  ],
  [
    'a last name alone takes its first name from the full one',
    { last: 'Haddad', full: 'Omar Haddad' },
    { firstName: 'Omar', lastName: 'Haddad' },
  ],
  ['a first name that is also the full one stays a first name', { first: 'Omar', full: 'Omar' }, { firstName: 'Omar' }],
  ['an email address is no name', { full: 'SALES@Example.NET' }, {}],
  [
    'a first name that is an email address is none',
    { first: 'a@b.example', full: 'Ada Byron' },
    { firstName: 'Ada', lastName: 'Byron' },
  ],
  ['blank is no name', { full: '   ' }, {}],
  ['a dash is no name', { full: '-' }, {}],
  ['"n/a" is no name', { full: 'N/A' }, {}],
  ['a link is no name', { full: 'Buy now https://spam.example' }, {}],
  ['nothing given is no name', {}, {}],
  ['a company in brackets is left out', { full: 'Jane Doe (Acme)' }, { firstName: 'Jane', lastName: 'Doe' }],
  ['what stands after a bar is left out', { full: 'Jane Doe | Acme GmbH' }, { firstName: 'Jane', lastName: 'Doe' }],
  [
    'what stands after a dash is left out, a double name is not',
    { full: 'Jane Doe-Smith – Acme' },
    { firstName: 'Jane', lastName: 'Doe-Smith' },
  ],
  ['line breaks and tabs are spaces', { full: ' Jane\n\tDoe ' }, { firstName: 'Jane', lastName: 'Doe' }],
];

for (const [name, { first, last, full }, want] of forms) {
  choosing(name, () => assert.equal(nameOf({ first, last, full }), want));
}

choosing('an endless name is cut', () => {
  const { lastName } = nameOf({ first: undefined, last: undefined, full: 'x'.repeat(5000) });
  assert.is(lastName?.length, 80);
});

splitting.run();
choosing.run();
