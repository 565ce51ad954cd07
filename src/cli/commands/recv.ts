/** `grooveway recv`: receives what was sent to this device. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Device, DeviceError, type DeviceOptions } from "../../device/index.ts";
import { ReconnectPause } from "../../device/reconnect.ts";
import { jsonLine, visible } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions, edgeLost } from "../device-options.ts";
import { secondsIn } from "../duration.ts";
import { type EndSignal, EXIT_CODES, statusOfSignal } from "../exit-codes.ts";
import { FileReceiver, type FileReceiverOptions } from "../files/file-receiver.ts";
import { type LeftOver, type LeftOversOptions, listLeftOvers, removeLeftOvers } from "../files/left-overs.ts";
import { forwardingIn } from "../http/forwarding-options.ts";
import { TRIES } from "../http/limits.ts";
import { untilInterrupted } from "../interrupt.ts";
import { progressBar, size } from "../output.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";
import { type Form, receive, senderOf } from "../receive-messages.ts";
import { Output } from "../standard-output.ts";
import { BESIDE, openStateFolder, type StateFolderOptions } from "../state-folder.ts";
import { openWayMemory } from "../way-memory.ts";

export const recvCommand: Command = {
  help: `Usage: grooveway recv [options]
       grooveway recv --forward URL [options]
       grooveway recv --list | --remove KEY | --remove-older TIME

Receives the next file or message for this device or its identity, and exits. A file is written under its own name, made
harmless, and never over another file; it is reported when it is on disk and its hash matches the sender's. A message is
printed as a line that begins with its sender; control characters are escaped, and further lines begin with "|". A message
is acknowledged when it has been written out; otherwise it is delivered again.

${CONNECTION_HELP}
  --follow              keep receiving until interrupted; retry the first connection until it succeeds
  --out DIR             folder for files, created if missing; default the current folder
  --allow-dotfiles      keep names that begin with a dot; otherwise they get a _ in front
  --json                print a JSON object for each file and message; a body that is not UTF-8 is in base64
  --forward URL         send what has waited in inboxes to this local server, below its path, and acknowledge what it
                        answers with 2xx; implies --follow. See grooveway inbox
  --tries N             how often to send a request before it is set aside at the edge: grooveway inbox ls --failed;
                        default ${TRIES}. A server that cannot be connected to is waited for
  --strict-order        set aside nothing for what the server answers: the next request of an inbox waits for the last
  --raw                 print the body of the next message and nothing else, byte for byte: recv --raw > FILE
  --state DIR           folder for state between runs; default GROOVEWAY_STATE, or $XDG_STATE_HOME/grooveway, or
                        ~/.local/state/grooveway

Unfinished transfers are kept, and continue when the sender does, even with another --out:
  --list                show them, and those that were set aside, with the reason
  --remove KEY          remove one, by its key in that list; repeatable
  --remove-older TIME   remove those of which nothing has arrived for this long: 12h, 30d

Example: grooveway recv --edge https://edge.example.com --as bob/laptop --follow --out inbox
         grooveway recv --as bob/laptop --forward http://localhost:3000/hooks`,

  async run(args) {
    const { values, positionals } = parse("recv", args, {
      ...CONNECTION_OPTIONS,
      follow: { type: "boolean", default: false },
      out: { type: "string" },
      "allow-dotfiles": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      raw: { type: "boolean", default: false },
      forward: { type: "string" },
      tries: { type: "string" },
      "strict-order": { type: "boolean", default: false },
      state: { type: "string" },
      list: { type: "boolean", default: false },
      remove: { type: "string", multiple: true },
      "remove-older": { type: "string" },
    });
    if (positionals.length > 0) throw unexpected("recv", positionals[0]);
    const { json, raw, list, out = "." } = values;
    const forwards = values.forward !== undefined;
    const follow = values.follow || forwards;
    if (raw && json) throw usage("recv", "--raw and --json exclude each other: give one");
    if (raw && follow) throw usage("recv", "--raw gives one message: leave out --follow and --forward");
    if (out === "") throw usage("recv", "--out is empty: name a folder");
    const older = values["remove-older"];
    const managesLeftOvers = list || values.remove !== undefined || older !== undefined;
    // With --out, files need no standard output. Messages do.
    const forReports = values.out !== undefined && !raw && !managesLeftOvers;
    const way = managesLeftOvers ? undefined : deviceOptions("recv", values);
    const forwarding = way === undefined ? undefined : forwardingIn(values, way);
    const output = Output.open(1, { forReports });
    const place = { state: values.state, beside: out };
    if (way === undefined) {
      const options = { state: (await openStateFolder(place)).path, out };
      if (values.remove !== undefined) await removeKeys(options, values.remove);
      if (older !== undefined) await removeOlder(options, older);
      if (list) await output.write(listed(await listLeftOvers(options), json));
      return EXIT_CODES.Done.status;
    }
    if (raw && output.columns !== undefined) {
      throw usage("recv", "--raw prints what others sent unescaped, which is unsafe on a terminal: add > FILE");
    }
    const ways = await openWayMemory({ state: values.state });
    const progress = progressBar("");
    const tell = (line: string) => {
      progress.hide();
      console.error(`grooveway: ${line}`);
    };
    let opened: Promise<FileReceiver> | undefined;
    const files = () => {
      const opening = opened ?? openFiles(place, { out, allowDotfiles: values["allow-dotfiles"] }, tell);
      opened = opening;
      return opening;
    };
    // Check a folder given with --out right away. The current folder need not be writable: messages do not touch it.
    const opensFilesFirst = values.out !== undefined || existsSync(join(out, BESIDE));
    if (opensFilesFirst) await files();
    const connecting = new AbortController();
    const interrupted = new AbortController();
    let ended: EndSignal | undefined;
    void untilInterrupted().then((signal) => {
      ended = signal;
      connecting.abort();
      interrupted.abort();
    });
    try {
      const onReconnect = (error: DeviceError) => tell(`${visible(error.message)}; reconnecting`);
      const onEdgeLost = (edge: string, error: DeviceError) => tell(edgeLost(edge, error));
      const device = await connect(
        { ...way, ...(ways && { ways }), signal: connecting.signal, onReconnect, onEdgeLost },
        follow,
        tell,
      );
      if (process.stderr.isTTY && !json) {
        tell(`${device.address} is connected by ${device.transport}; files are written to ${visible(resolve(out))}`);
      }
      const forwarder = forwarding?.({ output, tell, isJson: json, signal: interrupted.signal, device });
      const { received, setAside } = await receive({
        source: device,
        forwarder,
        files,
        opensFilesFirst,
        output,
        form: formOf(values),
        isFollowing: follow,
        tell,
        progress,
        signal: interrupted.signal,
      });
      if (setAside > 0) tell(`${setAside} set aside in all: see grooveway recv --list`);
      return ended === undefined || received > 0 ? EXIT_CODES.Done.status : statusOfSignal(ended);
    } catch (error) {
      // A connection error that the signal caused is of no interest to the user.
      if (ended !== undefined && error instanceof DeviceError) return statusOfSignal(ended);
      // A reader such as head -1 that closes the pipe early is normal. A reader that took nothing is an error.
      if (error instanceof CommandError && error.code === "OutputClosed" && output.hasWritten) {
        return EXIT_CODES.OutputClosed.status;
      }
      throw error;
    } finally {
      progress.end();
      await (await opened?.catch(() => undefined))?.close();
    }
  },
};

async function openFiles(
  place: StateFolderOptions,
  options: Omit<FileReceiverOptions, "state">,
  tell: (line: string) => void,
): Promise<FileReceiver> {
  const { path, notice } = await openStateFolder(place);
  const files = await FileReceiver.open({ ...options, state: path });
  if (notice !== undefined) tell(notice);
  return files;
}

function formOf({ json, raw }: { readonly json: boolean; readonly raw: boolean }): Form {
  if (json) return "json";
  return raw ? "raw" : "lines";
}

/**
 * Makes the first connection. If `isPatient`, retries transient failures with growing pauses.
 *
 * @throws DeviceError
 */
async function connect(options: DeviceOptions, isPatient: boolean, tell: (line: string) => void): Promise<Device> {
  const pause = new ReconnectPause();
  for (let isTold = false; ; isTold = true) {
    try {
      const device = await Device.connect(options);
      if (isTold) tell("connected");
      return device;
    } catch (error) {
      if (!isPatient || !(error instanceof DeviceError) || !error.retryable || options.signal?.aborted) throw error;
      if (!isTold) tell(`${visible(error.message)} [${error.code}]; retrying until it succeeds`);
      const rest = (error.retryAfter ?? 0) * 1000 + Math.random() * pause.next();
      // A signal ends the pause early.
      await sleep(rest, undefined, { signal: options.signal }).catch(() => undefined);
    }
  }
}

/** Formats left-overs as lines or JSON. */
function* listed(leftOvers: readonly LeftOver[], json: boolean): Generator<string> {
  for (const leftOver of leftOvers) {
    if (json) {
      yield `${jsonLine(leftOver)}\n`;
      continue;
    }
    const { key, name, from, vouched, folder, held, size: whole, reason, changed } = leftOver;
    const what = name === undefined ? "a file whose beginning is missing" : visible(name);
    const sender = senderOf({ from, vouched });
    const much = whole === undefined ? size(held) : `${size(held)} of ${size(whole)}`;
    const since = new Date(changed).toISOString().replace(/\.[0-9]*Z$/, "Z");
    yield `${key}  ${what} from ${sender}: ${much} in ${visible(folder)} since ${since}${reason === undefined ? "" : ` [${reason}]`}\n`;
  }
}

/**
 * Removes left-overs by key.
 *
 * @throws CommandError Usage if a key matches none, or several
 */
async function removeKeys(options: LeftOversOptions, wanted: readonly string[]): Promise<void> {
  const keys = (await listLeftOvers(options)).map(({ key }) => key);
  const chosen = wanted.map((text) => {
    // Any unambiguous prefix of a key will do.
    const [key, other] = text === "" ? [] : keys.filter((found) => found.startsWith(text));
    if (key === undefined) throw usage("recv", `--remove ${text}: no key in --list begins with it`);
    if (other !== undefined) throw usage("recv", `--remove ${text}: several keys begin with it, write more of the key`);
    return key;
  });
  await removeLeftOvers(options, ({ key }) => chosen.includes(key));
}

async function removeOlder(options: LeftOversOptions, age: string): Promise<void> {
  const seconds = secondsIn(age);
  if (seconds === undefined) throw usage("recv", `--remove-older ${age} is not a time such as 90s, 15m, 12h or 30d`);
  const before = Date.now() - seconds * 1000;
  await removeLeftOvers(options, ({ changed }) => changed <= before);
}
