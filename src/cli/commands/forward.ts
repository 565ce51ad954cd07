/** `grooveway forward`: makes services of other devices available on this machine. */
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { type Device, DeviceError, type DeviceStream } from "../../device/index.ts";
import { visible } from "../../lib/printable.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { CommandError } from "../command-error.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "../device-options.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { codeOf } from "../files/file-system.ts";
import { untilInterrupted } from "../interrupt.ts";
import { type Command, parse, usage } from "../parse-arguments.ts";
import { bridge } from "../streams/bridge.ts";
import {
  type Endpoint,
  endpointText,
  parseListener,
  parseServiceAddress,
  parseSocksAddress,
  type ServiceAddress,
  serviceText,
} from "../streams/stream-address.ts";
import { tell, withStreamDevice } from "../streams/stream-device.ts";

/** How long a new connection waits for the other device, in milliseconds; and while this device is not connected. */
const DIAL_TIMEOUT = 30_000;
const OFFLINE_TIMEOUT = 4_000;

/** Programs that are connected at a time: as many as a device has streams. */
const CONNECTIONS = 1024;

export const forwardCommand: Command = {
  help: `Usage: grooveway forward [options] [BIND:]PORT ADDRESS:NAME...
       grooveway forward [options] --socks [BIND:]PORT ADDRESS...
       grooveway forward [options] --stdio ADDRESS:NAME

Listens on a port of this machine, and connects each program that comes to the service NAME that the device ADDRESS
exposes. Several pairs are possible; unix:PATH listens on a unix socket, which only this user may use. Connections outlive
the loss of the network, for as long as the exposing device says. The key of a device is pinned when it is first dialed.

${CONNECTION_HELP}
  --socks               with an ADDRESS without NAME, listen for SOCKS 5: programs reach what that device lists with
                        grooveway expose --socks
  --stdio               connect standard input and output, as ProxyCommand of ssh

Example: grooveway forward --edge https://edge.example.com --as alice/laptop 2222 office/desk:ssh
         grooveway forward --as alice/laptop --socks 1080 office/desk
         curl --socks5-hostname 127.0.0.1:1080 https://git.example.com
         ssh -o ProxyCommand="grooveway forward --stdio office/desk:ssh" office`,

  async run(args) {
    const { values, positionals } = parse("forward", args, {
      ...CONNECTION_OPTIONS,
      socks: { type: "boolean", default: false },
      stdio: { type: "boolean", default: false },
    });
    if (values.stdio) {
      const [text, ...more] = positionals;
      if (text === undefined || more.length > 0 || values.socks)
        throw usage("forward", "--stdio takes one ADDRESS:NAME");
      const target = targetOf(text, parseServiceAddress);
      const interrupted = untilInterrupted();
      const options = deviceOptions("forward", values);
      return withStreamDevice({ options, interrupted, isEndless: false }, async ({ device, signal }) => {
        await overStandardStreams(await dial(device, target, signal));
        return EXIT_CODES.Done.status;
      });
    }
    const pairs = pairsOf(positionals, values.socks ? parseSocksAddress : parseServiceAddress);
    const options = deviceOptions("forward", values);
    const interrupted = untilInterrupted();
    // A port that is taken is told before anything else, and programs may come while the edge is away.
    const connected = Promise.withResolvers<(socket: Socket, target: ServiceAddress) => void>();
    let take = (socket: Socket, target: ServiceAddress): void => void takeLater(socket, target, connected.promise);
    const servers = await Promise.all(pairs.map(([at, target]) => listen(at, (socket) => take(socket, target))));
    for (const [index, server] of servers.entries()) {
      const [at, target] = pairs[index] as (typeof pairs)[number];
      console.log(visible(`${endpointText(boundTo(server, at))} is ${serviceText(target)}`));
    }
    try {
      return await withStreamDevice({ options, interrupted, isEndless: true }, async ({ device, signal }) => {
        take = (socket, target) => void forward(device, socket, target, signal);
        connected.resolve(take);
        if (!signal.aborted) await once(signal, "abort");
        return EXIT_CODES.Done.status;
      });
    } finally {
      for (const server of servers) server.close();
    }
  },
};

type ParseTarget = typeof parseServiceAddress;

function targetOf(text: string, parseTarget: ParseTarget): ServiceAddress {
  const parsed = parseTarget(text);
  if (!parsed.ok) throw usage("forward", parsed.problems);
  return parsed.value;
}

function pairsOf(positionals: readonly string[], parseTarget: ParseTarget): (readonly [Endpoint, ServiceAddress])[] {
  if (positionals.length === 0 || positionals.length % 2 !== 0) {
    throw usage(
      "forward",
      "give pairs of a port and a service, such as 2222 office/desk:ssh, or with --socks 1080 office/desk",
    );
  }
  const pairs: (readonly [Endpoint, ServiceAddress])[] = [];
  for (let at = 0; at < positionals.length; at += 2) {
    const listener = parseListener(positionals[at] ?? "");
    if (!listener.ok) throw usage("forward", listener.problems);
    pairs.push([listener.value, targetOf(positionals[at + 1] ?? "", parseTarget)]);
  }
  return pairs;
}

/** @throws CommandError PortTaken, CannotListen */
async function listen(at: Endpoint, take: (socket: Socket) => void): Promise<Server> {
  // Nothing is read before the other device has accepted.
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, take);
  server.maxConnections = CONNECTIONS;
  // Only this user may use a unix socket.
  const mask = process.umask(0o177);
  try {
    server.listen("path" in at ? { path: at.path } : { host: at.host, port: at.port });
    await once(server, "listening");
  } catch (error) {
    const code = codeOf(error);
    const where = visible(endpointText(at));
    if (code === "EADDRINUSE")
      throw new CommandError("PortTaken", `${where} is taken by another program: choose another`);
    throw new CommandError("CannotListen", `cannot listen on ${where} (${code ?? error}): choose another`);
  } finally {
    process.umask(mask);
  }
  return server;
}

function boundTo(server: Server, at: Endpoint): Endpoint {
  const bound = server.address();
  return "path" in at || bound === null || typeof bound === "string" ? at : { host: at.host, port: bound.port };
}

/** Forwards a connection that came before this device was connected for the first time, or resets it. */
async function takeLater(
  socket: Socket,
  target: ServiceAddress,
  connected: Promise<(socket: Socket, target: ServiceAddress) => void>,
): Promise<void> {
  socket.on("error", () => undefined);
  const take = await within(OFFLINE_TIMEOUT, connected);
  if (take !== undefined) {
    take.value(socket, target);
    return;
  }
  tell(messageOf(notConnected(target)));
  socket.resetAndDestroy();
}

async function forward(device: Device, socket: Socket, target: ServiceAddress, signal: AbortSignal): Promise<void> {
  const gone = new AbortController();
  const onGone = () => gone.abort();
  socket.once("close", onGone);
  socket.on("error", onGone);
  let stream: DeviceStream;
  try {
    stream = await dial(device, target, AbortSignal.any([signal, gone.signal]));
  } catch (error) {
    if (!signal.aborted && !gone.signal.aborted) tell(messageOf(error));
    socket.resetAndDestroy();
    return;
  }
  await bridge(stream, socket);
}

/** @throws DeviceError */
async function dial(device: Device, { address, service }: ServiceAddress, signal: AbortSignal): Promise<DeviceStream> {
  const isConnected = device.isConnected;
  const late = AbortSignal.timeout(isConnected ? DIAL_TIMEOUT : OFFLINE_TIMEOUT);
  try {
    // The signal ends with the dialing: the stream goes on.
    const dialing = new AbortController();
    const onAbort = () => dialing.abort();
    for (const one of [signal, late]) one.addEventListener("abort", onAbort, { once: true });
    try {
      return await device.dial(address, service, { signal: dialing.signal });
    } finally {
      for (const one of [signal, late]) one.removeEventListener("abort", onAbort);
    }
  } catch (error) {
    if (!late.aborted) throw error;
    if (!isConnected) throw notConnected({ address, service });
    throw new DeviceError(
      "ConnectFailed",
      `${serviceText({ address, service })}: ${address} has not answered: try again later`,
    );
  }
}

function notConnected(target: ServiceAddress): DeviceError {
  const text = `${serviceText(target)}: this device is not connected to its edge: try again when it is`;
  return new DeviceError("ConnectFailed", text);
}

function messageOf(error: unknown): string {
  return error instanceof DeviceError ? `${error.message} [${error.code}]` : String(error);
}

/** Ends when the other device has ended its direction. What was read from standard input by then arrives. */
async function overStandardStreams(stream: DeviceStream): Promise<void> {
  let hasEnded = false;
  const up = (async () => {
    const writer = stream.writable.getWriter();
    for await (const octets of process.stdin) await writer.write(octets as Uint8Array);
    hasEnded = true;
    await writer.close();
  })().catch(() => stream.reset());
  for await (const octets of stream.readable) {
    if (!process.stdout.write(octets)) await once(process.stdout, "drain");
  }
  // A program that goes on writing has nobody who reads, as with a socket.
  if (hasEnded) await up;
  else process.stdin.destroy();
}
