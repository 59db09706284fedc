/** What an email address tells about a person and a company, and what it doesn't. */

/** Trimmed and lower-cased; the plus part stays, it is part of the address. */
export function normalizeEmail(email: string): string {
  return email.trim().toLowerCase();
}

export function localPartOf(email: string): string {
  return email.slice(0, email.lastIndexOf('@'));
}

export function domainOf(email: string): string {
  return email.slice(email.lastIndexOf('@') + 1).toLowerCase();
}

/** True for a mail provider's domain: such an address says nothing about a company. */
export function isPersonalDomain(domain: string): boolean {
  const lower = domain.toLowerCase();
  return PERSONAL_DOMAINS.has(lower) || PERSONAL_FAMILIES.test(lower);
}

/** True for an address of a function, as in `info@`: its local part is nobody's name. */
export function isRoleAddress(email: string): boolean {
  return ROLES.has(localPartOf(email).toLowerCase().split('+', 1)[0]!);
}

const PERSONAL_FAMILIES =
  /^(gmail|googlemail|yahoo|ymail|hotmail|outlook|live|msn|aol|gmx|icloud|yandex)\.[a-z.]{2,7}$/;

const PERSONAL_DOMAINS = new Set([
  'me.com',
  'mac.com',
  'rocketmail.com',
  'proton.me',
  'protonmail.com',
  'protonmail.ch',
  'pm.me',
  'tutanota.com',
  'tuta.io',
  'tuta.com',
  'mail.com',
  'email.com',
  'usa.com',
  'zoho.com',
  'zohomail.com',
  'fastmail.com',
  'fastmail.fm',
  'hey.com',
  'hushmail.com',
  'inbox.com',
  'mail.ru',
  'bk.ru',
  'list.ru',
  'inbox.ru',
  'ya.ru',
  'rambler.ru',
  'web.de',
  't-online.de',
  'freenet.de',
  'posteo.de',
  'mailbox.org',
  'arcor.de',
  'orange.fr',
  'wanadoo.fr',
  'free.fr',
  'laposte.net',
  'sfr.fr',
  'libero.it',
  'virgilio.it',
  'tiscali.it',
  'alice.it',
  'btinternet.com',
  'sky.com',
  'virginmedia.com',
  'ntlworld.com',
  'talktalk.net',
  'comcast.net',
  'verizon.net',
  'att.net',
  'sbcglobal.net',
  'bellsouth.net',
  'cox.net',
  'charter.net',
  'earthlink.net',
  'optonline.net',
  'shaw.ca',
  'rogers.com',
  'sympatico.ca',
  'bigpond.com',
  'bigpond.net.au',
  'optusnet.com.au',
  'xtra.co.nz',
  'qq.com',
  '163.com',
  '126.com',
  'sina.com',
  'sohu.com',
  'foxmail.com',
  'aliyun.com',
  'naver.com',
  'daum.net',
  'hanmail.net',
  'rediffmail.com',
  'uol.com.br',
  'bol.com.br',
  'terra.com.br',
  'seznam.cz',
  'wp.pl',
  'o2.pl',
  'onet.pl',
  'interia.pl',
  'ukr.net',
  'abv.bg',
  'telenet.be',
  'skynet.be',
  'ziggo.nl',
  'kpnmail.nl',
  'bluewin.ch',
  'telia.com',
  'duck.com',
  'mailinator.com',
  'privaterelay.appleid.com',
]);

const ROLES = new Set([
  'info',
  'sales',
  'contact',
  'hello',
  'hi',
  'team',
  'office',
  'admin',
  'administrator',
  'support',
  'help',
  'helpdesk',
  'marketing',
  'billing',
  'accounts',
  'accounting',
  'finance',
  'hr',
  'jobs',
  'careers',
  'press',
  'media',
  'enquiries',
  'inquiries',
  'mail',
  'post',
  'webmaster',
  'postmaster',
  'hostmaster',
  'abuse',
  'noreply',
  'no-reply',
  'service',
  'services',
  'reception',
  'general',
  'it',
  'legal',
  'privacy',
  'security',
  'orders',
  'purchasing',
  'procurement',
]);
