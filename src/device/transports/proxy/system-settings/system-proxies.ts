/**
 * What an operating system says about proxies, in one form for all of them.
 *
 * @module
 */

/** Proxies as texts that `parseProxies` takes; undefined where none is set. */
export interface SystemProxies {
  /** For `https` and SSTP. */
  readonly https?: string | undefined;
  /** For plain `http`. */
  readonly http?: string | undefined;
  readonly socks?: string | undefined;
  /** Exceptions, for `matchesNoProxy`. */
  readonly noProxy?: string | undefined;
  /** URL of a PAC file. */
  readonly pac?: string | undefined;
  /** The user has told the system to look for a PAC file by itself (WPAD). */
  readonly isAutomatic?: boolean | undefined;
}

/** `host:port` as a proxy of a kind, unless the text names a scheme itself. Undefined for an empty text. */
export function withScheme(scheme: string, text: string | undefined): string | undefined {
  const trimmed = text?.trim() ?? "";
  if (trimmed === "") return undefined;
  return trimmed.includes("://") ? trimmed : `${scheme}://${trimmed}`;
}

/** A proxy from a host and a port in two settings; undefined unless both are set. */
export function fromParts(scheme: string, host: string | undefined, port: string | undefined): string | undefined {
  const name = host?.trim() ?? "";
  if (name === "" || port === undefined || !/^[1-9]\d{0,4}$/.test(port.trim())) return undefined;
  if (name.includes("://")) return `${name.replace(/\/+$/, "")}:${port.trim()}`;
  return `${scheme}://${name.includes(":") && !name.startsWith("[") ? `[${name}]` : name}:${port.trim()}`;
}
