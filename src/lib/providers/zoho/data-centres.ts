/**
 * Zoho's data centres: an account lives in one of them, and client, token and API must all be of the same one.
 * Source: the vendor's SDK (`@zohocrm/typescript-sdk-8.0`); `uk` and `ae` are not in it and come from public code.
 */

/** By what stands in `ZOHO_DC`: the ending of the API's host. Canada's accounts host is the odd one. */
export const DATA_CENTRES = {
  com: { accountsUrl: 'https://accounts.zoho.com', apiUrl: 'https://www.zohoapis.com' },
  eu: { accountsUrl: 'https://accounts.zoho.eu', apiUrl: 'https://www.zohoapis.eu' },
  in: { accountsUrl: 'https://accounts.zoho.in', apiUrl: 'https://www.zohoapis.in' },
  'com.au': { accountsUrl: 'https://accounts.zoho.com.au', apiUrl: 'https://www.zohoapis.com.au' },
  jp: { accountsUrl: 'https://accounts.zoho.jp', apiUrl: 'https://www.zohoapis.jp' },
  'com.cn': { accountsUrl: 'https://accounts.zoho.com.cn', apiUrl: 'https://www.zohoapis.com.cn' },
  ca: { accountsUrl: 'https://accounts.zohocloud.ca', apiUrl: 'https://www.zohoapis.ca' },
  sa: { accountsUrl: 'https://accounts.zoho.sa', apiUrl: 'https://www.zohoapis.sa' },
  uk: { accountsUrl: 'https://accounts.zoho.uk', apiUrl: 'https://www.zohoapis.uk' },
  ae: { accountsUrl: 'https://accounts.zoho.ae', apiUrl: 'https://www.zohoapis.ae' },
} as const;

export type DataCentre = keyof typeof DATA_CENTRES;

const API_HOST = /^(?:www|sandbox|developer)\.zohoapis\.(?<centre>[a-z.]+)$/;

/**
 * The origin of a token reply's `api_domain`, or `undefined` unless it is https and a host of Zoho's: the token is sent
 * there with every call.
 */
export function parseApiDomain(apiDomain: unknown): string | undefined {
  if (typeof apiDomain !== 'string' || !URL.canParse(apiDomain)) return undefined;
  const { protocol, hostname, port, origin } = new URL(apiDomain);
  const centre = API_HOST.exec(hostname)?.groups?.centre;
  if (protocol !== 'https:' || port !== '' || centre === undefined) return undefined;
  return Object.hasOwn(DATA_CENTRES, centre) ? origin : undefined;
}
