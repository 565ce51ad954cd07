/**
 * Command-line options shared by `send` and `recv` for connecting as a device.
 *
 * @module
 */
import { hostname, userInfo } from "node:os";
import { CAPABILITIES, type DeviceError, type DeviceOptions, type EdgeOption, TRANSPORTS } from "../device/index.ts";
import { printable, visible } from "../lib/printable.ts";
import { newInstance, parseAddress } from "../sstp/index.ts";
import { withCode } from "./error-line.ts";
import { size } from "./output.ts";
import { usage } from "./parse-arguments.ts";
import { plainNotice } from "./plain-notice.ts";
import { type CompletedOptions, PROFILE_OPTION, type ProfileOptions, withProfile } from "./profiles/profile-options.ts";
import { PROXY_OPTIONS, type ProxyValues, proxiesOf } from "./proxy-options.ts";
import { readAuthorities } from "./tls.ts";

/** Where `grooveway start` and `grooveway relay` listen by default. */
const OWN_RELAY = "127.0.0.1:2492";

export const CONNECTION_OPTIONS = {
  ...PROFILE_OPTION,
  as: { type: "string" },
  relay: { type: "string" },
  edge: { type: "string", multiple: true },
  transport: { type: "string" },
  ca: { type: "string" },
  token: { type: "string" },
  "allow-plain": { type: "boolean", default: false },
  ...PROXY_OPTIONS,
  "content-length": { type: "string" },
} as const;

export const CONNECTION_HELP = `  --profile NAME        take what is not given here from this profile of grooveway login; default GROOVEWAY_PROFILE, or
                        the profile default. Its token goes to its own edges only
  --edge URL            connect to this edge, which keeps a mailbox for every device; repeatable, up to four: receive from
                        each of them, and send to the first that works
  --relay HOST[:PORT]   use this origin relay: through the edge, or by TCP without --edge; default without --edge
                        ${OWN_RELAY}
  --transport NAME      auto, tcp, tcp443, tls, connect, socks, websocket, longlived, keepalive, polling; default auto,
                        the best that works. The first five after auto need a relay without an edge, connect and socks a
                        proxy too
  --as IDENTITY/DEVICE  this device's address; default that of the profile, or ${defaultAddress()}
  --token TOKEN|@FILE   token for the edges or relay; default the environment variable GROOVEWAY_TOKEN. Other users of this
                        machine can see the command line, so prefer a file; it is read again for each connection
  --allow-plain         let token and messages go unencrypted: to any relay, and to port 80 of an https edge
  --proxy URL|@FILE     connect through this proxy: http://HOST:PORT, https://, socks5:// or socks4://, several for a chain;
                        pac+URL for a PAC file, direct for none. Default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY,
                        then GROOVEWAY_PAC, then the settings of the system
  --proxy-credentials FILE
                        user names and passwords of proxies, each as a line http://USER:PASSWORD@HOST:PORT
  --ca FILE             certificate authorities to trust in addition to the system's (PEM)
  --content-length N    bytes that one LongLived session may carry; default 94371840, and more after the first`;

/**
 * Converts command-line values to device options.
 *
 * @throws CommandError Usage, CannotRead, TlsUnusable, and those of `withProfile`
 */
export function deviceOptions(
  command: string,
  given: ProfileOptions &
    ProxyValues & {
      readonly "allow-plain"?: boolean | undefined;
      readonly "content-length"?: string | undefined;
    },
): DeviceOptions {
  const values = { ...given, ...withProfile(given, { inherited: process.env.GROOVEWAY_TOKEN }) };
  const contentLength = values["content-length"];
  if (contentLength !== undefined && !/^[0-9]{1,10}$/.test(contentLength)) {
    throw usage(command, `--content-length ${contentLength} is not a number of bytes`);
  }
  const transport = values.transport === undefined ? undefined : transportName(command, values.transport);
  if (
    values.edge !== undefined &&
    transport !== undefined &&
    transport !== "auto" &&
    !CAPABILITIES[transport].carriesToken
  ) {
    throw usage(
      command,
      `--transport ${transport} connects to the relay without an edge: give --relay without --edge, or choose another transport`,
    );
  }
  const { token, edges } = values;
  const notice = plainNotice({
    edges: edges.map(({ edge }) => edge),
    relay: values.edge === undefined ? values.relay : undefined,
    allowPlain: values["allow-plain"],
    hasToken: edges.some((each) => each.token !== undefined) || token !== undefined,
  });
  if (notice !== undefined) console.error(`grooveway: ${notice}`);
  const isOwnRelay = values.relay === undefined && values.edge === undefined;
  const relay = isOwnRelay ? OWN_RELAY : values.relay;
  const options: DeviceOptions = {
    address: values.as === undefined ? defaultAddress() : ownAddress(command, values.as),
    // An edge given without a relay acts as the relay itself.
    ...(relay !== undefined && { relay }),
    ...(values.edge !== undefined && { edge: edges.length > 1 ? edges.map(edgeOption) : values.edge }),
    ...(transport !== undefined && { transport }),
    proxy: proxiesOf(command, values),
    ...(values.ca !== undefined && edges.length < 2 && { ca: readAuthorities(values.ca) }),
    ...(token !== undefined && edges.length < 2 && { token }),
    ...(values["allow-plain"] === true && { allowPlain: true }),
    ...(contentLength !== undefined && { contentLength: Number(contentLength) }),
    onReconnect: (error) => console.error(`grooveway: ${error.message}; reconnecting`),
    onEdgeLost: (edge, error) => console.error(`grooveway: ${edgeLost(edge, error)}`),
  };
  // After all that may be wrong with the options.
  if (isOwnRelay) {
    console.error(
      `grooveway: no --edge, no --relay and no profile of grooveway login: connecting to a relay at ${OWN_RELAY}`,
    );
  }
  return options;
}

/** What is for one of several edges, and for no other. */
function edgeOption({ edge, token, ca }: CompletedOptions["edges"][number]): EdgeOption {
  return { url: edge, ...(token !== undefined && { token }), ...(ca !== undefined && { ca: readAuthorities(ca) }) };
}

/** Tells that a device goes on without an edge. */
export function edgeLost(edge: string, { message, code }: DeviceError): string {
  return visible(`${URL.parse(edge)?.host ?? "an edge"}: ${withCode(message, code)}; going on without this edge`);
}

/** Validates the address given with --as. */
export function ownAddress(command: string, text: string): string {
  const as = `--as ${printable(text)}`;
  const parsed = parseAddress(text);
  if (!parsed.ok) throw usage(command, `${as} is not an address: ${parsed.problems}`);
  const { device, relay } = parsed.value;
  if (device === undefined) throw usage(command, `${as} names no device: write ${text}/laptop`);
  if (relay !== undefined) {
    throw usage(command, `${as} names a relay: write ${text.split("@")[0]}, and --relay ${relay}`);
  }
  return text;
}

/**
 * The address of one program of a device, such as `alice/laptop~k3v90q2a`: an address has one connection, and several
 * programs run at the same time. That of the device itself if it leaves no room.
 */
export function instanceAddress(address: string): string {
  const [identity = "", device = ""] = address.split("/");
  const instance = `${identity}/${newInstance(device)}`;
  return parseAddress(instance).ok ? instance : address;
}

/** Formats a transfer rate for display. */
export function rate(octets: number, milliseconds: number): string {
  return `${size(Math.round(octets / Math.max(milliseconds / 1000, 0.001)))}/s`;
}

export function transportName(command: string, text: string): NonNullable<DeviceOptions["transport"]> {
  const names = ["auto", ...TRANSPORTS] as const;
  const name = names.find((transport) => transport === text);
  if (name === undefined) throw usage(command, `--transport ${text} is unknown: choose one of ${names.join(", ")}`);
  return name;
}

/** Returns `USER/HOST` for this machine. In a container, either name may be missing. */
export function defaultAddress({ user, host } = { user: () => userInfo().username, host: hostname }): string {
  const name = told(user) || process.env.USER || process.env.LOGNAME || `user${process.getuid?.() ?? ""}`;
  const [device = ""] = told(host).split(".");
  return `${encodeURIComponent(name)}/${encodeURIComponent(device || "device")}`;
}

/** Returns the result of `ask`, or "" if it throws: userInfo() does for a user without a passwd entry. */
function told(ask: () => string): string {
  try {
    return ask();
  } catch {
    return "";
  }
}
