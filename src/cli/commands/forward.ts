/** `grooveway forward`: makes services of other devices available on this machine. */
import { once } from "node:events";
import type { DeviceStream } from "../../device/index.ts";
import type { Result } from "../../lib/result.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions, instanceAddress } from "../device-options.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { untilInterrupted } from "../interrupt.ts";
import { type Command, parse, usage } from "../parse-arguments.ts";
import { Dialer, ForwardedPort } from "../streams/forwarded-port.ts";
import { PLAIN_HELP, PLAIN_NOTICE, PLAIN_OPTION } from "../streams/plain-option.ts";
import {
  type Endpoint,
  endpointText,
  type ForwardTarget,
  parseListener,
  parseOrigin,
  parseServiceAddress,
  parseSocksAddress,
  targetText,
} from "../streams/stream-address.ts";
import { withStreamDevice } from "../streams/stream-device.ts";
import { LOG_HELP, LOG_OPTIONS, StreamLog } from "../streams/stream-log.ts";

export const forwardCommand: Command = {
  help: `Usage: grooveway forward [options] [BIND:]PORT ADDRESS:NAME...
       grooveway forward [options] --socks [BIND:]PORT ADDRESS...
       grooveway forward [options] --to HOST:PORT [BIND:]PORT
       grooveway forward [options] --stdio ADDRESS:NAME
       grooveway forward [options] --stdio --to HOST:PORT

Listens on a port of this machine, and connects each program that comes to the service NAME that the device ADDRESS
exposes. Several pairs are possible; unix:PATH listens on a unix socket, which only this user may use. Connections outlive
the loss of the network, for as long as the exposing device says. The key of a device is pinned when it is first dialed.

With --to the edge itself connects to HOST:PORT, a service beside it that its operator lists (grooveway edge
--stream-allow) and the token allows (scope origin:HOST:PORT). Several pairs are --to HOST:PORT for each port, in their
order. What is carried is protected up to the edge. It outlives the loss of the network, for as long as the edge says, but
no restart of the edge.

${CONNECTION_HELP}
${PLAIN_HELP}
  --socks               with an ADDRESS without NAME, listen for SOCKS 5: programs reach what that device lists with
                        grooveway expose --socks
  --to HOST:PORT        have the edge connect to this destination; repeatable, one for each port
  --stdio               connect standard input and output, as ProxyCommand of ssh. Several may run at a time: each is an
                        instance of the device, such as alice/laptop~k3v90q2a, with its rights and its key
${LOG_HELP}

Example: grooveway forward --edge https://edge.example.com --as alice/laptop 2222 office/desk:ssh
         grooveway forward --as alice/laptop --socks 1080 office/desk
         curl --socks5-hostname 127.0.0.1:1080 https://git.example.com
         grooveway forward --as alice/laptop --to db.example.com:5432 5432
         ssh -o ProxyCommand="grooveway forward --stdio office/desk:ssh" office`,

  async run(args) {
    const { values, positionals } = parse("forward", args, {
      ...CONNECTION_OPTIONS,
      socks: { type: "boolean", default: false },
      to: { type: "string", multiple: true, default: [] },
      ...PLAIN_OPTION,
      ...LOG_OPTIONS,
      stdio: { type: "boolean", default: false },
    });
    if (values.stdio) {
      const [text, ...more] = [...positionals, ...values.to];
      if (text === undefined || more.length > 0 || values.socks)
        throw usage("forward", "--stdio takes one ADDRESS:NAME, or one --to HOST:PORT");
      const target = targetOf(text, values.to.length > 0 ? parseOrigin : parseServiceAddress);
      const interrupted = untilInterrupted();
      const given = deviceOptions("forward", values);
      const options = { ...given, address: instanceAddress(given.address), plain: values.plain };
      if (values.plain) new StreamLog().tell(PLAIN_NOTICE);
      return withStreamDevice({ options, interrupted, isEndless: false }, async ({ device, signal }) => {
        const dialer = new Dialer();
        dialer.attach(device);
        await overStandardStreams(await dialer.dial(target, signal));
        return EXIT_CODES.Done.status;
      });
    }
    if (values.to.length > 0 && values.socks) {
      throw usage("forward", "--to and --socks are for different ports: run one grooveway forward for each");
    }
    const pairs =
      values.to.length > 0
        ? originPairs(positionals, values.to)
        : pairsOf(positionals, values.socks ? parseSocksAddress : parseServiceAddress);
    const options = { ...deviceOptions("forward", values), plain: values.plain };
    const interrupted = untilInterrupted();
    const dialer = new Dialer();
    const log = new StreamLog(values);
    if (values.plain) log.tell(PLAIN_NOTICE);
    // Listen first: a port in use is reported at the start, and programs may connect while the edge is unreachable.
    const ports = await Promise.all(pairs.map(([at, target]) => ForwardedPort.open({ at, target, dialer, log })));
    const close = () => {
      for (const port of ports) port.close();
    };
    void interrupted.then(close);
    for (const { at, target } of ports) {
      const [where, service] = [endpointText(at), targetText(target)];
      log.announce("forwarded", `${where} is ${service}`, { at: where, service });
    }
    try {
      return await withStreamDevice({ options, interrupted, isEndless: true, log }, async ({ device, signal }) => {
        dialer.attach(device);
        if (!signal.aborted) await once(signal, "abort");
        return EXIT_CODES.Done.status;
      });
    } finally {
      close();
    }
  },
};

type ParseTarget = (text: string) => Result<ForwardTarget, string>;

type Pair = readonly [Endpoint, ForwardTarget];

function targetOf(text: string, parseTarget: ParseTarget): ForwardTarget {
  const parsed = parseTarget(text);
  if (!parsed.ok) throw usage("forward", parsed.problems);
  return parsed.value;
}

function pairsOf(positionals: readonly string[], parseTarget: ParseTarget): Pair[] {
  if (positionals.length === 0 || positionals.length % 2 !== 0) {
    throw usage(
      "forward",
      "give pairs of a port and a service, such as 2222 office/desk:ssh, or with --socks 1080 office/desk",
    );
  }
  const pairs: Pair[] = [];
  for (let at = 0; at < positionals.length; at += 2) {
    pairs.push([listenerOf(positionals[at] ?? ""), targetOf(positionals[at + 1] ?? "", parseTarget)]);
  }
  return pairs;
}

/** Each port with the destination in the same place. */
function originPairs(ports: readonly string[], origins: readonly string[]): Pair[] {
  if (ports.length !== origins.length) {
    throw usage(
      "forward",
      `there are ${ports.length} ports and ${origins.length} of --to: give one --to for each port`,
    );
  }
  return origins.map((origin, at) => [listenerOf(ports[at] ?? ""), targetOf(origin, parseOrigin)]);
}

function listenerOf(text: string): Endpoint {
  const listener = parseListener(text);
  if (!listener.ok) throw usage("forward", listener.problems);
  return listener.value;
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
  // What the program still writes is discarded, as with a socket.
  if (hasEnded) await up;
  else process.stdin.destroy();
}
