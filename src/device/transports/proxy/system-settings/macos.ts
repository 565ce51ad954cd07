/**
 * The proxy settings of macOS, from what `scutil --proxy` prints. Pure.
 *
 * @module
 */
import { fromParts, type SystemProxies } from "./system-proxies.ts";

export function parseScutil(text: string): SystemProxies {
  const values = new Map<string, string>();
  const exceptions: string[] = [];
  let isInExceptions = false;
  for (const line of text.split(/\r?\n/)) {
    const [, name = "", value = ""] = /^\s*(\S+) : (.*?)\s*$/.exec(line) ?? [];
    if (name === "ExceptionsList") isInExceptions = value.startsWith("<array>");
    else if (/^\s*\}/.test(line)) isInExceptions = false;
    else if (isInExceptions && /^\d+$/.test(name)) exceptions.push(value);
    // Sections of single interfaces repeat the names; the first is the global one.
    else if (name !== "" && !values.has(name)) values.set(name, value);
  }
  if (values.get("ExcludeSimpleHostnames") === "1") exceptions.push("<local>");
  const set = (kind: string, scheme: string) =>
    values.get(`${kind}Enable`) === "1"
      ? fromParts(scheme, values.get(`${kind}Proxy`), values.get(`${kind}Port`))
      : undefined;
  return {
    https: set("HTTPS", "http"),
    http: set("HTTP", "http"),
    socks: set("SOCKS", "socks5"),
    noProxy: exceptions.join(","),
    pac: values.get("ProxyAutoConfigEnable") === "1" ? values.get("ProxyAutoConfigURLString") : undefined,
    isAutomatic: values.get("ProxyAutoDiscoveryEnable") === "1",
  };
}
