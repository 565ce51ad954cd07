/** `grooveway connect`: exposes and forwards what a file says, and follows its changes. */
import { once } from "node:events";
import { dirname, join } from "node:path";
import { coalesced } from "../../lib/shared-run.ts";
import { CommandError } from "../command-error.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "../device-options.ts";
import { withCode } from "../error-line.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { onChange, stateOf } from "../file-changes.ts";
import { untilInterrupted } from "../interrupt.ts";
import { type Command, parse, unexpected } from "../parse-arguments.ts";
import { neededConfigPath } from "../profiles/config-file.ts";
import { readConnections } from "../streams/connect-file.ts";
import { ExposedServices } from "../streams/exposed-services.ts";
import { EXPOSING_HELP, EXPOSING_OPTIONS, exposingOptions } from "../streams/exposing-options.ts";
import { Dialer } from "../streams/forwarded-port.ts";
import { ForwardedPorts } from "../streams/forwarded-ports.ts";
import { withStreamDevice } from "../streams/stream-device.ts";
import { LOG_HELP, LOG_OPTIONS, StreamLog } from "../streams/stream-log.ts";

export const connectCommand: Command = {
  help: `Usage: grooveway connect [options] [FILE]

Does what several grooveway expose and grooveway forward do, as one device, until it is interrupted. FILE, by default
connect.toml in the folder of the profiles, has these tables, or some of them:

  [expose]
  ssh = "127.0.0.1:22"              # NAME = "HOST:PORT" or "unix:PATH"

  [forward]
  2222 = "office/desk:ssh"          # [BIND:]PORT or unix:PATH = "ADDRESS:NAME"; quote what has a colon

  [socks]
  expose = ["git.example.com:22"]   # destinations, as of grooveway expose --socks

  [socks.forward]
  1080 = "office/desk"              # as of grooveway forward --socks: "ADDRESS"

  [to]
  5432 = "db.example.com:5432"      # what the edge connects to, as of grooveway forward --to

It is read again when it has changed. What is unchanged goes on undisturbed; connections to what was removed or leads
elsewhere end. If the file cannot be read, what was read before goes on.

${CONNECTION_HELP}
${EXPOSING_HELP}
${LOG_HELP}

Example: grooveway connect --edge https://edge.example.com --as office/desk office.toml`,

  async run(args) {
    const { values, positionals } = parse("connect", args, {
      ...CONNECTION_OPTIONS,
      ...EXPOSING_OPTIONS,
      ...LOG_OPTIONS,
    });
    const log = new StreamLog(values);
    const [path = join(dirname(neededConfigPath()), "connect.toml"), ...more] = positionals;
    if (more.length > 0) throw unexpected("connect", more[0]);
    const state = stateOf([path]);
    let connections = readConnections(path);
    const { keyring, resumeTime, plain } = exposingOptions("connect", values, log);
    const options = { ...deviceOptions("connect", values), resumeTime, plain };
    const interrupted = untilInterrupted();
    const ending = new AbortController();
    const dialer = new Dialer();
    const ports = new ForwardedPorts(dialer, log);
    let exposed: ExposedServices | undefined;
    const end = () => {
      ending.abort();
      ports.close();
    };
    void interrupted.then(end);
    const [failure] = await ports.set(connections.forward);
    try {
      if (failure !== undefined) throw failure;
      const reload = coalesced(async () => {
        try {
          connections = readConnections(path);
        } catch (error) {
          if (!(error instanceof CommandError)) throw error;
          log.tell(`${withCode(error.message, error.code)}; what was read before goes on`, "unreadable");
          return;
        }
        exposed?.set(connections.exposed);
        for (const { message, code } of await ports.set(connections.forward))
          log.tell(withCode(message, code), "not-forwarded");
      });
      onChange({ paths: [path], state, signal: ending.signal }, () => void reload());
      return await withStreamDevice(
        { options, keyring, interrupted, isEndless: true, log },
        async ({ device, signal }) => {
          exposed = new ExposedServices(device, log);
          exposed.set(connections.exposed);
          dialer.attach(device);
          if (!signal.aborted) await once(signal, "abort");
          return EXIT_CODES.Done.status;
        },
      );
    } finally {
      end();
    }
  },
};
