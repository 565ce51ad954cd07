/** `grooveway expose`: offers TCP services of this machine to other devices. */
import { once } from "node:events";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "../device-options.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { HTTP_HELP, HTTP_OPTIONS, httpServicesIn, offerHttp } from "../http/http-services.ts";
import { untilInterrupted } from "../interrupt.ts";
import { type Command, parse } from "../parse-arguments.ts";
import { ExposedServices } from "../streams/exposed-services.ts";
import { EXPOSE_OPTIONS, EXPOSING_HELP, exposedIn, exposingOptions } from "../streams/exposing-options.ts";
import { withStreamDevice } from "../streams/stream-device.ts";
import { LOG_HELP, LOG_OPTIONS, StreamLog } from "../streams/stream-log.ts";

export const exposeCommand: Command = {
  help: `Usage: grooveway expose [options] NAME=HOST:PORT...
       grooveway expose [options] --socks DESTINATION... [NAME=HOST:PORT...]
       grooveway expose [options] --http NAME=URL --allow PATTERN [NAME=HOST:PORT...]

Offers TCP services to other devices until it is interrupted. Who may connect is said by grooveway trust: an address and a
key; others are refused before a socket is opened. NAME=unix:PATH offers a unix socket. Messages for this device wait in
its mailbox meanwhile.

With --socks, grooveway forward --socks there is a SOCKS proxy to these destinations, and to no others: HOST:PORT,
*.DOMAIN:PORT with a domain of at least two labels, or ADDRESS/BITS:PORT, at most /16 (IPv6: /48). Several ports are
80,443 or 8000-8099. Names are resolved here. Loopback, link-local and metadata addresses must be listed themselves.

With --http, grooveway call there asks an HTTP server of this machine: by messages, which wait while this device is away.

${CONNECTION_HELP}
${EXPOSING_HELP}
  --socks               connect to the destinations that are listed, besides services
${HTTP_HELP}
${LOG_HELP}

Example: grooveway expose --edge https://edge.example.com --as office/desk ssh=127.0.0.1:22
         grooveway expose --as office/desk --socks git.example.com:22,443 10.1.0.0/16:5432
         grooveway expose --as bob/pc --http api=http://localhost:3000/v1 --allow alice`,

  async run(args) {
    const { values, positionals } = parse("expose", args, {
      ...CONNECTION_OPTIONS,
      ...EXPOSE_OPTIONS,
      ...HTTP_OPTIONS,
      ...LOG_OPTIONS,
    });
    const log = new StreamLog(values);
    const http = httpServicesIn(values);
    const exposed = exposedIn(positionals, values.socks, http.servers.size > 0);
    const { keyring, resumeTime, plain } = exposingOptions("expose", values, log);
    const options = { ...deviceOptions("expose", values), resumeTime, plain };
    const interrupted = untilInterrupted();
    return withStreamDevice({ options, keyring, interrupted, isEndless: true, log }, async ({ device, signal }) => {
      offerHttp(device, http, log);
      new ExposedServices(device, log).set(exposed);
      if (!signal.aborted) await once(signal, "abort");
      return EXIT_CODES.Done.status;
    });
  },
};
