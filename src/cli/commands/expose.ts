/** `grooveway expose`: offers TCP services of this machine to other devices. */
import { once } from "node:events";
import type { Device, DeviceStream } from "../../device/index.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "../device-options.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { untilInterrupted } from "../interrupt.ts";
import { type Command, parse } from "../parse-arguments.ts";
import { ExposedServices, peerText } from "../streams/exposed-services.ts";
import { EXPOSE_OPTIONS, EXPOSING_HELP, exposedIn, exposingOptions } from "../streams/exposing-options.ts";
import type { Destination } from "../streams/socks-destinations.ts";
import { SocksService } from "../streams/socks-service.ts";
import { SOCKS } from "../streams/stream-address.ts";
import { withStreamDevice } from "../streams/stream-device.ts";
import { LOG_HELP, LOG_OPTIONS, StreamLog } from "../streams/stream-log.ts";

export const exposeCommand: Command = {
  help: `Usage: grooveway expose [options] NAME=HOST:PORT...
       grooveway expose [options] --socks DESTINATION... [NAME=HOST:PORT...]

Offers TCP services to other devices until it is interrupted. Who may connect is said by grooveway trust: an address and a
key; others are refused before a socket is opened. NAME=unix:PATH offers a unix socket. Messages for this device wait in
its mailbox meanwhile.

With --socks, grooveway forward --socks there is a SOCKS proxy to these destinations, and to no others: HOST:PORT,
*.DOMAIN:PORT with a domain of at least two labels, or ADDRESS/BITS:PORT, at most /16 (IPv6: /48). Several ports are
80,443 or 8000-8099. Names are resolved here. Loopback, link-local and metadata addresses must be listed themselves.

${CONNECTION_HELP}
${EXPOSING_HELP}
  --socks               connect to the destinations that are listed, besides services
${LOG_HELP}

Example: grooveway expose --edge https://edge.example.com --as office/desk ssh=127.0.0.1:22
         grooveway expose --as office/desk --socks git.example.com:22,443 10.1.0.0/16:5432`,

  async run(args) {
    const { values, positionals } = parse("expose", args, {
      ...CONNECTION_OPTIONS,
      ...EXPOSE_OPTIONS,
      ...LOG_OPTIONS,
    });
    const log = new StreamLog(values);
    const { services, destinations } = exposedIn(positionals, values.socks);
    const { keyring, resumeTime } = exposingOptions("expose", values, log);
    const options = { ...deviceOptions("expose", values), resumeTime };
    const interrupted = untilInterrupted();
    return withStreamDevice({ options, keyring, interrupted, isEndless: true, log }, async ({ device, signal }) => {
      if (destinations.length > 0) offerSocks(device, destinations, log);
      new ExposedServices(device, log).set(services);
      for (const { text } of destinations) {
        log.announce("exposed", `SOCKS at ${device.address} reaches ${text}`, { destination: text });
      }
      if (!signal.aborted) await once(signal, "abort");
      return EXIT_CODES.Done.status;
    });
  },
};

function offerSocks(device: Device, destinations: readonly Destination[], log: StreamLog): void {
  const refused = (stream: DeviceStream, why: string) =>
    log.tell(`SOCKS: refused ${peerText(stream)}: ${why}`, "refused");
  const service = new SocksService({ destinations, refused, traffic: log.traffic });
  device.serve(SOCKS, (stream) => service.serve(stream));
}
