/** `grooveway send`: sends files, or a text, to a device. */
import { lstatSync } from "node:fs";
import { join } from "node:path";
import { Device, DeviceError, type DeviceOptions } from "../../device/index.ts";
import { jsonLine, visible } from "../../lib/printable.ts";
import { FILE_RESOURCE } from "../../transfer/index.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "../device-options.ts";
import { secondsIn } from "../duration.ts";
import { type EndSignal, EXIT_CODES, type ExitName, endingOfSignal } from "../exit-codes.ts";
import { filesAt } from "../files/files-to-send.ts";
import { edgesOf, roomFor, takeBack } from "../files/recipient-mailbox.ts";
import { type SendEnd, SendFiles } from "../files/send-files.ts";
import { SendJournal } from "../files/send-journal.ts";
import { untilInterrupted } from "../interrupt.ts";
import { progressBar, size } from "../output.ts";
import { type Command, parse, usage } from "../parse-arguments.ts";
import { SendReport } from "../send-report.ts";
import { sendText } from "../send-text.ts";
import { Output } from "../standard-output.ts";
import { openStateFolder } from "../state-folder.ts";
import { openWayMemory } from "../way-memory.ts";

/** Enough for a laptop to wake up or a relay to restart, and short enough for a user waiting at a terminal. */
const DEFAULT_WAIT = "10m";

/** Mailboxes keep nothing for longer. */
const LONGEST_WAIT = 14 * 24 * 3600;

/** How long sending may stall before that is reported, in milliseconds: sooner on a terminal than in a log. */
const SILENCE = { terminal: 2000, log: 10_000 };

/** File name of the journal in the state folder. */
const JOURNAL = "sending.db";

export const sendCommand: Command = {
  help: `Usage: grooveway send [options] ADDRESS PATH...
       grooveway send [options] ADDRESS --text TEXT

Sends files and folders, or standard input for -, to IDENTITY or IDENTITY/DEVICE. Exits when the edge or relay has stored
everything; the recipient may connect later. A file in a folder is named by its path from that folder. Symbolic links are
neither sent nor followed, and empty folders are not sent. After an interruption, the same command continues where it
stopped. With --text it sends one message instead, which recv shows with the sender's address.

${CONNECTION_HELP}
  --text TEXT           send this text as a message, and no files
  --name NAME           with one PATH: its name at the recipient; default its own, or stdin for -
  --wait TIME           give up after this long without room in the recipient's mailbox, or without a connection: 90s,
                        15m, 12h, at most 14d; default ${DEFAULT_WAIT}. Without room, unfinished transfers are cancelled
  --fresh               start over, whatever an interrupted run has sent
  --state DIR           folder for the journal of interrupted runs; default GROOVEWAY_STATE, or $XDG_STATE_HOME/grooveway,
                        or ~/.local/state/grooveway
  --json                print a JSON object for each file, and one at the end

Example: grooveway send --edge https://edge.example.com bob/laptop report.pdf photos
         grooveway send --edge https://edge.example.com bob --text "The report is on its way."
         tar c photos | grooveway send --edge https://edge.example.com bob/laptop - --name photos.tar`,

  async run(args) {
    const { values, positionals } = parse("send", args, {
      ...CONNECTION_OPTIONS,
      name: { type: "string" },
      text: { type: "string" },
      wait: { type: "string", default: DEFAULT_WAIT },
      fresh: { type: "boolean", default: false },
      state: { type: "string" },
      json: { type: "boolean", default: false },
    });
    const [to, ...paths] = positionals;
    const { text } = values;
    if (to === undefined || (paths.length === 0 && text === undefined)) {
      throw usage("send", "an ADDRESS and at least one PATH are needed, or --text");
    }
    if (text !== undefined && (paths.length > 0 || values.name !== undefined || values.fresh)) {
      throw usage("send", "--text sends no files: leave out PATH, --name and --fresh, or send the files separately");
    }
    if (values.name !== undefined && paths.length > 1) throw usage("send", "--name works with one PATH only");
    if (paths.filter((path) => path === "-").length > 1) throw usage("send", "standard input can be sent only once");
    const wait = secondsIn(values.wait);
    if (wait === undefined || wait > LONGEST_WAIT) {
      throw usage("send", `--wait ${values.wait} is not a time such as 90s, 15m or 12h, of at most 14d`);
    }
    const ways = await openWayMemory({ state: values.state });
    const way = { ...deviceOptions("send", values), ...(ways && { ways }) };
    const output = Output.open(1, { forReports: true });
    const interruption = new Interruption();
    const tell = (line: string) => console.error(`grooveway: ${line}`);
    if (text !== undefined) {
      const { signal } = interruption;
      const id = await sendText({ way, to, text, wait, signal, ending: () => interruption.ending, tell });
      const octets = Buffer.byteLength(text);
      const line = `sent a message of ${size(octets)} to ${visible(to)}`;
      await output.report([values.json ? jsonLine({ event: "sent", to, id, bytes: octets }) : line, "\n"]);
      return EXIT_CODES.Done.status;
    }
    const report = new SendReport({
      output,
      tell,
      progress: progressBar(`to ${to}`),
      to,
      paths,
      isOne: paths.length === 1 && !isFolder(paths[0] ?? ""),
      isJson: values.json,
      isTerminal: process.stderr.isTTY,
      wait,
    });
    let journal: SendJournal | undefined;
    try {
      await findSources(paths, values.name, report, interruption);
      let end: SendEnd = interruption.isOver ? "interrupted" : "done";
      if (report.sources.length > 0 && !interruption.isOver) {
        const destination = [edgesOf(way).join(" "), way.relay ?? "", way.address, to].join(" ");
        journal = await openJournal(values.state, destination, report);
        end = await sendSources({ way, to, journal, isFresh: values.fresh, wait, report, interruption });
      }
      const failure = await report.finish(end, interruption.ending);
      if (failure !== undefined) throw failure;
      finishOnExit(journal);
      journal = undefined;
      return EXIT_CODES.Done.status;
    } finally {
      journal?.close();
      report.end();
      if (paths.includes("-")) process.stdin.destroy();
    }
  },
};

/** Tracks the first signal that asks the command to end. */
class Interruption {
  readonly #controller = new AbortController();
  #received: EndSignal | undefined;

  constructor() {
    void untilInterrupted().then((received) => {
      this.#received = received;
      this.#controller.abort();
    });
  }

  /** Aborts when the signal arrives. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isOver(): boolean {
    return this.#received !== undefined;
  }

  /** How the signal makes the command end. */
  get ending(): ExitName | undefined {
    return this.#received && endingOfSignal(this.#received);
  }
}

function isFolder(path: string): boolean {
  try {
    return path !== "-" && lstatSync(path).isDirectory();
  } catch {
    // findSources reports the error.
    return false;
  }
}

async function findSources(
  paths: readonly string[],
  name: string | undefined,
  report: SendReport,
  { signal }: Interruption,
): Promise<void> {
  for (const path of paths) {
    if (path === "-") {
      report.foundStream({ name: name ?? "stdin", stream: process.stdin });
      continue;
    }
    for await (const finding of filesAt(path, name)) {
      if (signal.aborted) return;
      await report.found(finding);
    }
  }
}

/** Opens the journal of interrupted runs. Returns undefined if there is no place for one. */
async function openJournal(
  state: string | undefined,
  destination: string,
  report: SendReport,
): Promise<SendJournal | undefined> {
  const { path } = await openStateFolder({ state });
  let journal: SendJournal | undefined;
  const file = path === undefined ? undefined : join(path, JOURNAL);
  const failed = (error: unknown) => {
    report.begin(false);
    console.error(
      `grooveway: cannot use the journal ${file} (${(error as Error).message}): after an interruption, sending starts over; choose another --state`,
    );
  };
  try {
    if (file !== undefined) journal = new SendJournal(file, destination, failed);
  } catch (error) {
    failed(error);
  }
  const isFile = (source: object) => "path" in source;
  report.begin(journal !== undefined && report.sources.some(isFile));
  return journal;
}

/**
 * Lets a repeated command send everything again, but only once this one has succeeded for whoever waits for its exit
 * status. If it is killed before, its output fails, or a file could not be sent, the repeated command sends the rest.
 */
function finishOnExit(journal: SendJournal | undefined): void {
  process.once("exit", (status) => {
    if (status === EXIT_CODES.Done.status) journal?.finish();
  });
}

interface SendSourcesOptions {
  readonly way: DeviceOptions;
  readonly to: string;
  readonly journal: SendJournal | undefined;
  readonly isFresh: boolean;
  /** The value of --wait, in seconds. */
  readonly wait: number;
  readonly report: SendReport;
  readonly interruption: Interruption;
}

async function sendSources(options: SendSourcesOptions): Promise<SendEnd> {
  const { way, to, journal, isFresh, wait, report, interruption } = options;
  let run: SendFiles | undefined;
  const device = await connected(
    {
      ...way,
      receive: false,
      onReconnect(error) {
        report.reconnecting(error);
        // Another edge takes over within this turn.
        setImmediate(() => run !== undefined && device?.edge === undefined && run.lost());
      },
      // Ignore held cancellations: they say nothing about files.
      onHeld: (_, resource) => resource === FILE_RESOURCE && run?.held(),
      onReleased: (_, resource) => resource === FILE_RESOURCE && run?.released(),
    },
    interruption.signal,
  );
  if (device === undefined) return "interrupted";
  try {
    const room = report.bytes === undefined ? undefined : await roomFor(way, to, device.edge);
    if (room !== undefined) report.room(room);
    run = new SendFiles({
      device,
      to,
      journal,
      isFresh,
      sources: report.sources,
      wait: wait * 1000,
      silence: process.stderr.isTTY ? SILENCE.terminal : SILENCE.log,
      signal: interruption.signal,
      listener: report,
      takeBack: (transfer) => takeBack(way, to, transfer),
    });
    return await run.run();
  } catch (error) {
    throw error instanceof DeviceError ? report.explained(error) : error;
  } finally {
    await device.close();
  }
}

/** Connects the device. Returns undefined if the signal aborts first. A later abort does not close the device. */
async function connected(options: DeviceOptions, signal: AbortSignal): Promise<Device | undefined> {
  const connecting = new AbortController();
  const stop = () => connecting.abort();
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  try {
    return await Device.connect({ ...options, signal: connecting.signal });
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
