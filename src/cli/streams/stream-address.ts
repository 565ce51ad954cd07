/**
 * What the commands of streams take: `ADDRESS:NAME`, `NAME=HOST:PORT`, `[BIND:]PORT`, `HOST:PORT`. Pure.
 *
 * @module
 */
import { formatHostPort, parseHostPort, parsePort } from "../../lib/host-port.ts";
import { printable } from "../../lib/printable.ts";
import type { Result } from "../../lib/result.ts";
import { parseAddress } from "../../sstp/index.ts";

/** Where a program listens or connects. */
export type Endpoint = { readonly host: string; readonly port: number } | { readonly path: string };

/** A service of a device. */
export interface ServiceAddress {
  readonly address: string;
  readonly service: string;
}

/** What a port leads to: a service of a device, or `host:port` that the edge dials. */
export type ForwardTarget = ServiceAddress | { readonly origin: string };

/** The service that lists what a device exposes. No exposed service can have this name. */
export const LISTING = "?";

/** The service that connects to what a device exposes by SOCKS. Again, no exposed service can have this name. */
export const SOCKS = "?socks";

const UNIX = "unix:";

/** Whether a text can name an exposed service: it is safe in a shell and in an address. */
export function isExposedName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(text);
}

/** Parses `identity[/device]:service[@relay]`. */
export function parseServiceAddress(text: string): Result<ServiceAddress, string> {
  const [name = "", relay] = text.split("@");
  const colon = name.lastIndexOf(":");
  const service = name.slice(colon + 1);
  if (colon < 0 || !isExposedName(service)) {
    return wrong(`${printable(text)} names no service: write ADDRESS:NAME, such as office/desk:ssh`);
  }
  const address = name.slice(0, colon) + (relay === undefined ? "" : `@${relay}`);
  const parsed = parseAddress(address);
  return parsed.ok ? { ok: true, value: { address, service } } : wrong(parsed.problems);
}

/** Parses `identity[/device][@relay]` as the address of what it exposes by SOCKS, or else as `parseServiceAddress`. */
export function parseSocksAddress(text: string): Result<ServiceAddress, string> {
  const [name = ""] = text.split("@");
  if (name.includes(":")) return parseServiceAddress(text);
  const parsed = parseAddress(text);
  return parsed.ok ? { ok: true, value: { address: text, service: SOCKS } } : wrong(parsed.problems);
}

/** Parses `HOST:PORT`, which the edge dials. */
export function parseOrigin(text: string): Result<ForwardTarget, string> {
  const parsed = parseHostPort(text, { finalDot: true });
  if (typeof parsed === "string" || parsed.port === undefined) {
    return wrong(`${printable(text)} is no destination: write HOST:PORT, such as db.example.com:5432`);
  }
  return { ok: true, value: { origin: formatHostPort({ host: parsed.host, port: parsed.port }) } };
}

/** What a port leads to, as text. */
export function targetText(target: ForwardTarget): string {
  return "origin" in target ? `${target.origin} from the edge` : serviceText(target);
}

/** A service as text. */
export function serviceText({ address, service }: ServiceAddress): string {
  return service === SOCKS ? `SOCKS at ${address}` : `${address}:${service}`;
}

/** Parses `NAME=HOST:PORT` or `NAME=unix:PATH`. */
export function parseExposed(text: string): Result<{ readonly name: string; readonly to: Endpoint }, string> {
  const at = text.indexOf("=");
  const [name, to] = [text.slice(0, Math.max(0, at)), text.slice(at + 1)];
  if (!isExposedName(name)) {
    return wrong(
      `${printable(text)} has no name: write NAME=HOST:PORT, with a name of up to 64 letters, digits and . _ -`,
    );
  }
  if (to.startsWith(UNIX) && to.length > UNIX.length)
    return { ok: true, value: { name, to: { path: to.slice(UNIX.length) } } };
  const parsed = parseHostPort(to);
  if (typeof parsed === "string" || parsed.port === undefined) {
    return wrong(`${printable(text)} has no address: write ${name}=HOST:PORT, or ${name}=unix:PATH`);
  }
  return { ok: true, value: { name, to: { host: parsed.host, port: parsed.port } } };
}

/** Parses `[BIND:]PORT` or `unix:PATH`. Port 0 is any that is free. */
export function parseListener(text: string): Result<Endpoint, string> {
  if (text.startsWith(UNIX) && text.length > UNIX.length) return { ok: true, value: { path: text.slice(UNIX.length) } };
  const colon = text.lastIndexOf(":");
  const port = parsePort(text.slice(colon + 1), 0);
  const host = colon < 0 ? "127.0.0.1" : text.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  if (port === undefined || host === "") {
    return wrong(`${printable(text)} is nothing to listen on: write a port, BIND:PORT, or unix:PATH`);
  }
  return { ok: true, value: { host, port } };
}

/** An endpoint as text. */
export function endpointText(endpoint: Endpoint): string {
  if ("path" in endpoint) return UNIX + endpoint.path;
  const host = endpoint.host.includes(":") && !endpoint.host.startsWith("[") ? `[${endpoint.host}]` : endpoint.host;
  return `${host}:${endpoint.port}`;
}

function wrong(problems: string): Result<never, string> {
  return { ok: false, problems };
}
