/**
 * Command-line options shared by `send` and `recv` for connecting as a device.
 *
 * @module
 */
import { hostname, userInfo } from "node:os";
import { type DeviceOptions, TRANSPORTS, type TransportName } from "../device/index.ts";
import { printable } from "../lib/printable.ts";
import { parseAddress } from "../sstp/index.ts";
import { size } from "./output.ts";
import { readText, usage } from "./parse-arguments.ts";
import { readAuthorities } from "./tls.ts";

export const CONNECTION_OPTIONS = {
  as: { type: "string" },
  relay: { type: "string" },
  edge: { type: "string" },
  transport: { type: "string" },
  ca: { type: "string" },
  token: { type: "string" },
  "allow-plain": { type: "boolean", default: false },
  "content-length": { type: "string" },
} as const;

export const CONNECTION_HELP = `  --edge URL            connect to this edge, which keeps a mailbox for every device
  --relay HOST[:PORT]   use this origin relay: through the edge, or by TCP without --edge; default without --edge
                        127.0.0.1:2492
  --transport NAME      ${TRANSPORTS.join(", ")}; default longlived with an edge, otherwise tcp
  --as IDENTITY/DEVICE  this device's address; default ${defaultAddress()}
  --token TOKEN|@FILE   token for the edge or relay; default the environment variable GROOVEWAY_TOKEN. Other users of this
                        machine can see the command line, so prefer a file; it is read again for each connection
  --allow-plain         without --edge: let the token go unencrypted beyond loopback and private addresses
  --ca FILE             certificate authorities to trust for the edge, instead of the system's (PEM)
  --content-length N    bytes that one LongLived session may carry; default 67108864`;

/**
 * Converts command-line values to device options.
 *
 * @throws CommandError Usage, CannotRead, TlsUnusable
 */
export function deviceOptions(
  command: string,
  values: {
    as?: string | undefined;
    relay?: string | undefined;
    edge?: string | undefined;
    transport?: string | undefined;
    ca?: string | undefined;
    token?: string | undefined;
    "allow-plain"?: boolean | undefined;
    "content-length"?: string | undefined;
  },
): DeviceOptions {
  const contentLength = values["content-length"];
  if (contentLength !== undefined && !/^[0-9]{1,10}$/.test(contentLength)) {
    throw usage(command, `--content-length ${contentLength} is not a number of bytes`);
  }
  if (values.edge !== undefined && values.transport === "tcp") {
    throw usage(
      command,
      "--transport tcp connects to the relay directly: leave out --edge, or choose another transport",
    );
  }
  const token = tokenOf(values.token ?? process.env.GROOVEWAY_TOKEN ?? "");
  return {
    address: values.as === undefined ? defaultAddress() : ownAddress(command, values.as),
    ...relayOf(values.relay, values.edge),
    ...(values.edge !== undefined && { edge: values.edge }),
    ...(values.transport !== undefined && { transport: transportName(command, values.transport) }),
    ...(values.ca !== undefined && { ca: readAuthorities(values.ca) }),
    ...(token !== undefined && { token }),
    ...(values["allow-plain"] === true && { allowPlain: true }),
    ...(contentLength !== undefined && { contentLength: Number(contentLength) }),
    onReconnect: (error) => console.error(`grooveway: ${error.message}; reconnecting`),
  };
}

/** Validates the address given with --as. */
function ownAddress(command: string, text: string): string {
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
 * Returns a function that yields the token. For `@FILE`, it reads the file anew on each call.
 *
 * @throws CommandError CannotRead
 */
export function tokenOf(text: string): (() => string) | undefined {
  if (text === "") return undefined;
  const read = () => (text.startsWith("@") ? readText(text.slice(1)) : text).trim();
  // Report a missing file now, not at the first connection.
  read();
  return read;
}

/** An edge given without a relay acts as the relay itself. */
function relayOf(relay: string | undefined, edge: string | undefined): { relay?: string } {
  if (relay !== undefined) return { relay };
  return edge === undefined ? { relay: "127.0.0.1:2492" } : {};
}

/** Formats a transfer rate for display. */
export function rate(octets: number, milliseconds: number): string {
  return `${size(Math.round(octets / Math.max(milliseconds / 1000, 0.001)))}/s`;
}

function transportName(command: string, text: string): TransportName {
  const name = TRANSPORTS.find((transport) => transport === text);
  if (name === undefined)
    throw usage(command, `--transport ${text} is unknown: choose one of ${TRANSPORTS.join(", ")}`);
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
