/**
 * The endpoint of a connection and its text form.
 *
 * @module
 */

export interface Endpoint {
  /** A name, or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
}

/** `192.0.2.1:443`, `[2001:db8::1]:443`. */
export function formatEndpoint({ host, port }: Endpoint): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
