/**
 * The proxy settings of GNOME, from what `gsettings list-recursively org.gnome.system.proxy` prints. Pure.
 *
 * @module
 */
import { fromParts, type SystemProxies } from "./system-proxies.ts";

export const GNOME_SCHEMA = "org.gnome.system.proxy";

export function parseGsettings(text: string): SystemProxies {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, schema = "", key = "", value = ""] = /^(org\.gnome\.system\.proxy\S*) (\S+) (.*?)\s*$/.exec(line) ?? [];
    if (key !== "") values.set(`${schema.slice(GNOME_SCHEMA.length)} ${key}`.trim(), value);
  }
  const mode = textOf(values.get("mode"));
  if (mode === "auto") {
    const pac = textOf(values.get("autoconfig-url"));
    return pac === "" ? { isAutomatic: true } : { pac };
  }
  if (mode !== "manual") return {};
  const set = (kind: string, scheme: string) =>
    fromParts(scheme, textOf(values.get(`.${kind} host`)), values.get(`.${kind} port`));
  return {
    https: set("https", "http"),
    http: set("http", "http"),
    socks: set("socks", "socks5"),
    noProxy: [...(values.get("ignore-hosts") ?? "").matchAll(/'([^']*)'/g)].map(([, host]) => host).join(","),
  };
}

/** A text as GVariant prints it: in single or double quotes. */
function textOf(value: string | undefined): string {
  const [, text = ""] = /^['"](.*)['"]$/.exec(value ?? "") ?? [];
  return text;
}
