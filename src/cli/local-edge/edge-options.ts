/**
 * The options of `grooveway edge`, declared once: the command line and edge.toml have the same.
 *
 * @module
 */

/** How each option is written on the command line. */
export const EDGE_OPTIONS = {
  host: { type: "string" },
  port: { type: "string" },
  name: { type: "string", multiple: true },
  "tls-key": { type: "string" },
  "tls-cert": { type: "string" },
  prefix: { type: "string" },
  "trusted-proxy": { type: "string", multiple: true },
  keys: { type: "string" },
  "jwks-url": { type: "string" },
  revoked: { type: "string" },
  "revoked-url": { type: "string" },
  "auth-origin": { type: "boolean" },
  "admin-token": { type: "string" },
  "dev-private": { type: "boolean" },
  dev: { type: "boolean" },
  state: { type: "string" },
  quota: { type: "string" },
  rate: { type: "string" },
  "acknowledge-time": { type: "string" },
  "keep-time": { type: "string" },
  "min-free": { type: "string" },
  "relay-allow": { type: "string", multiple: true },
  resolver: { type: "string" },
  link: { type: "string", multiple: true },
  "link-ways": { type: "string" },
  "link-secret": { type: "string" },
  "link-plain": { type: "string", multiple: true },
  "stream-allow": { type: "string", multiple: true },
  "stream-resume": { type: "string" },
  json: { type: "boolean" },
  "log-level": { type: "string" },
  verbose: { type: "boolean", short: "v" },
} as const;

export type EdgeOption = keyof typeof EDGE_OPTIONS;

/** Options that name a file or a folder. */
export const EDGE_FILES = ["tls-key", "tls-cert", "keys", "revoked", "link-secret", "state"] as const;

/** Values by option. An option that is not given is absent. */
export type EdgeValues = {
  readonly [Name in EdgeOption]?: (typeof EDGE_OPTIONS)[Name] extends { readonly multiple: true }
    ? readonly string[]
    : (typeof EDGE_OPTIONS)[Name]["type"] extends "boolean"
      ? boolean
      : string;
};
