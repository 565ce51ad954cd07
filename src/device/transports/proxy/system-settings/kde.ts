/**
 * The proxy settings of KDE, from the file `kioslaverc`. Pure.
 *
 * @module
 */
import { type SystemProxies, withScheme } from "./system-proxies.ts";

/** Values of ProxyType. */
const MANUAL = "1";
const PAC = "2";
const AUTOMATIC = "3";

export function parseKioslaverc(text: string): SystemProxies {
  const values = new Map<string, string>();
  let group = "";
  for (const line of text.split(/\r?\n/)) {
    const [, opened] = /^\s*\[(.*)\]\s*$/.exec(line) ?? [];
    if (opened !== undefined) group = opened;
    const [, key, value] = /^\s*([^=#[\s][^=[]*?)(?:\[\$\w+\])?\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (group === "Proxy Settings" && key !== undefined && value !== undefined) values.set(key, value);
  }
  switch (values.get("ProxyType")) {
    case MANUAL: {
      const list = (values.get("NoProxyFor") ?? "").trim();
      // With ReversedException the list names what needs the proxy, which no list of exceptions can say.
      const isReversed = values.get("ReversedException") === "true";
      return {
        https: proxyOf("http", values.get("httpsProxy")),
        http: proxyOf("http", values.get("httpProxy")),
        socks: proxyOf("socks5", values.get("socksProxy")),
        noProxy: isReversed ? "" : list,
      };
    }
    case PAC:
      return { pac: values.get("Proxy Config Script") };
    case AUTOMATIC:
      return { isAutomatic: true };
    default:
      return {};
  }
}

/** KDE writes `http://proxy.example.com 3128`, and in newer versions a colon. */
function proxyOf(scheme: string, value: string | undefined): string | undefined {
  return withScheme(
    scheme,
    value
      ?.trim()
      .replace(/\/*\s+(\d+)$/, ":$1")
      .replace(/\/+$/, ""),
  );
}
