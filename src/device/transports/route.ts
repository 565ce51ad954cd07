/**
 * Where a transport's sockets connect to.
 *
 * @module
 */
import { HTTP_PORT, parseRelay, SECURE_TUNNEL_PORT, SSTP_PORT } from "../../encapsulation/index.ts";
import { type HostPort, unbracketed } from "../../lib/host-port.ts";
import { DeviceError } from "../device-error.ts";
import type { Endpoint } from "./endpoint.ts";

export interface Route extends Endpoint {
  readonly secure: boolean;
}

/** A route to an edge. */
export interface EdgeRoute extends Route {
  /** Its URL, `http:` or `https:`, including its path. */
  readonly edge: URL;
}

/** @throws DeviceError InvalidOption */
export function relayRoute(relay: string): Route {
  const { host, port = SSTP_PORT } = parsedRelay(relay);
  return { host: unbracketed(host), port, secure: false };
}

/**
 * Parses the URL of an edge. It has no user name, password, query or fragment, which would be ignored; the error does
 * not repeat it, since they may be secret.
 *
 * @throws DeviceError InvalidOption
 */
export function edgeRoute(url: string): EdgeRoute {
  const edge = URL.canParse(url) ? new URL(url) : undefined;
  const form = "must be a URL such as https://edge.example.com";
  if (edge === undefined || !/^https?:$/.test(edge.protocol)) {
    throw new DeviceError("InvalidOption", `edge ${/[@?#]/.test(url) ? "" : `${JSON.stringify(url)} `}${form}`);
  }
  if (edge.username !== "" || edge.password !== "") {
    const cure = "remove what stands before the @, and give a token as --token @FILE or the option token";
    throw new DeviceError("InvalidOption", `edge ${form}, without a user name or password: ${cure}`);
  }
  if (/[?#]/.test(edge.href)) {
    throw new DeviceError("InvalidOption", `edge ${form}: remove the ? or # and what follows it`);
  }
  const secure = edge.protocol === "https:";
  const port = edge.port === "" ? (secure ? SECURE_TUNNEL_PORT : HTTP_PORT) : Number(edge.port);
  return { host: unbracketed(edge.hostname), port, secure, edge };
}

/** @throws DeviceError InvalidOption */
export function parsedRelay(relay: string): HostPort {
  const parsed = parseRelay(relay);
  if (parsed !== undefined) return parsed;
  throw new DeviceError("InvalidOption", `relay ${JSON.stringify(relay)} must be host, host:port or [IPv6]:port`);
}
