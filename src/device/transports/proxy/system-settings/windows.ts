/**
 * The proxy settings of Windows, from what `reg query` prints of
 * `HKCU\Software\Microsoft\Windows\CurrentVersion\Internet Settings`. Pure.
 *
 * @module
 */
import { type SystemProxies, withScheme } from "./system-proxies.ts";

export const REGISTRY_KEY = "HKCU\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings";

/** `    ProxyServer    REG_SZ    proxy.example.com:8080` */
const VALUE = /^\s+(\S+)\s+(REG_[A-Z_]+)\s{0,4}(.*?)\s*$/;

export function parseRegistry(text: string): SystemProxies {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, name, , value] = VALUE.exec(line) ?? [];
    if (name !== undefined && value !== undefined) values.set(name.toLowerCase(), value);
  }
  const pac = values.get("autoconfigurl") || undefined;
  const isAutomatic = flag(values.get("autodetect"));
  const server = flag(values.get("proxyenable")) ? (values.get("proxyserver") ?? "") : "";
  if (!server.includes("=")) {
    // One proxy for all protocols.
    const all = withScheme("http", server);
    return { pac, isAutomatic, https: all, http: all, noProxy: values.get("proxyoverride") };
  }
  // http=proxy:80;https=proxy:80;socks=proxy:1080
  const each = new Map(
    server.split(/[;\s]+/).map((part) => {
      const at = part.indexOf("=");
      return [part.slice(0, Math.max(at, 0)).toLowerCase(), part.slice(at + 1)] as const;
    }),
  );
  return {
    pac,
    isAutomatic,
    https: withScheme("http", each.get("https")),
    http: withScheme("http", each.get("http")),
    // Windows means version 4.
    socks: withScheme("socks4", each.get("socks")),
    noProxy: values.get("proxyoverride"),
  };
}

function flag(value: string | undefined): boolean {
  return /^0x0*1$/i.test(value ?? "");
}
