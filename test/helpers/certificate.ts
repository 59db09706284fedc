/** An authority of the test's own, and a certificate of it for this machine. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

export type TestCertificate = { caFile: string; certFile: string; keyFile: string };

/** Written into `dir`; good for a day. */
export function makeCertificate(dir: string): TestCertificate {
  const at = (name: string) => join(dir, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const newKey = (name: string) => ['-newkey', 'rsa:2048', '-nodes', '-keyout', at(`${name}.key`)];
  const authority = ['-CA', at('ca.pem'), '-CAkey', at('ca.key')];
  openssl('req', '-x509', ...newKey('ca'), '-out', at('ca.pem'), '-days', '1', '-subj', '/CN=tests');
  openssl(
    ...['req', '-x509', ...newKey('redis'), '-out', at('redis.pem'), '-days', '1', '-subj', '/CN=localhost'],
    ...['-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-addext', 'basicConstraints=CA:FALSE', ...authority],
  );
  return { caFile: at('ca.pem'), certFile: at('redis.pem'), keyFile: at('redis.key') };
}
