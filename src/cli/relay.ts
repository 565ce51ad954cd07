/** `grooveway relay`: the origin relay. */
import { type Relay, startRelay } from "../relay/index.ts";
import { SSTP_PORT } from "../sstp/index.ts";
import { type Command, parse, port, usage } from "./arguments.ts";
import { CommandError } from "./output.ts";
import { untilInterrupted } from "./signals.ts";

export const relayCommand: Command = {
  help: `Usage: grooveway relay [options]

Runs an origin relay: SSTP on TCP, with a queue for every device and identity.

  --port N       TCP port; default ${SSTP_PORT}, 0 for any free one
  --host HOST    address to listen on; default 127.0.0.1, use 0.0.0.0 or :: to be reached from elsewhere
  --store FILE   keep what waits in this file; without it a restart forgets it
  --name NAME    name that clients know this relay by; may be given more than once
                 default: this host's name, localhost and the address listened on
  --json         print one JSON object when it listens
  -v, --verbose  a line for each connection

Example: grooveway relay --host 0.0.0.0 --name relay.example.com --store /var/lib/grooveway/relay.db`,

  async run(args) {
    const { values, positionals } = parse("relay", args, {
      port: { type: "string", default: String(SSTP_PORT) },
      host: { type: "string", default: "127.0.0.1" },
      store: { type: "string" },
      name: { type: "string", multiple: true },
      json: { type: "boolean", default: false },
      verbose: { type: "boolean", short: "v", default: false },
    });
    if (positionals.length > 0) throw usage("relay", `${positionals[0]} is not an option`);
    const relay = await startRelayHere({
      port: port("relay", values.port),
      host: values.host,
      ...(values.store !== undefined && { store: values.store }),
      ...(values.name !== undefined && { names: values.name }),
      ...(values.verbose && { log: (line: string) => console.error(line) }),
    });
    if (values.json) console.log(JSON.stringify({ event: "listening", host: relay.host, port: relay.port }));
    else {
      console.log(`relay listens on ${relay.host}:${relay.port}`);
      if (values.store === undefined) console.log("it forgets what waits when it stops: give --store FILE to keep it");
    }
    await untilInterrupted();
    await relay.close();
    return 0;
  },
};

/**
 * Starts a relay, with errors that a user can mend.
 *
 * @throws CommandError PortTaken, CannotListen, StoreFailed
 */
export async function startRelayHere(options: Parameters<typeof startRelay>[0] & object): Promise<Relay> {
  try {
    return await startRelay(options);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const where = `${options.host ?? "127.0.0.1"}:${options.port ?? SSTP_PORT}`;
    if (code === "EADDRINUSE") {
      throw new CommandError(
        "PortTaken",
        `${where} is taken by another program: stop it, or choose another port with --port`,
      );
    }
    if (code === "ERR_SQLITE_ERROR") {
      throw new CommandError(
        "StoreFailed",
        `cannot use ${options.store} as the store (${message}): choose another --store FILE`,
      );
    }
    if (code === "EACCES" || code === "EADDRNOTAVAIL" || code === "ENOTFOUND") {
      throw new CommandError("CannotListen", `cannot listen on ${where} (${code}): choose another --host or --port`);
    }
    throw error;
  }
}
