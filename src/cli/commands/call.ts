/** `grooveway call`: asks an HTTP service of another device, which may answer later. */
import { readFile } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import { Device, DeviceError, type ServiceAnswer } from "../../device/index.ts";
import { jsonLine, printable, visible } from "../../lib/printable.ts";
import { isHeaderValue, isToken } from "../../requests/index.ts";
import { CommandError } from "../command-error.ts";
import { CONNECTION_HELP, CONNECTION_OPTIONS, deviceOptions } from "../device-options.ts";
import { secondsIn } from "../duration.ts";
import { type EndSignal, EXIT_CODES, statusOfSignal } from "../exit-codes.ts";
import { untilInterrupted } from "../interrupt.ts";
import { decoded } from "../message-lines.ts";
import { type Command, parse, unexpected, unreadable, usage } from "../parse-arguments.ts";
import { Output } from "../standard-output.ts";
import { parseServiceAddress } from "../streams/stream-address.ts";

export const callCommand: Command = {
  help: `Usage: grooveway call ADDRESS:NAME [METHOD] /PATH [options]

Asks an HTTP service that another device serves, with grooveway expose --http or the library, and prints its answer. The
request waits in the mailbox of ADDRESS until the device comes, and the answer in the mailbox of this one, until the
deadline. Give each program that calls an address of its own (--as): answers go to the device that connected last.

${CONNECTION_HELP}
  --header LINE         a header of the request, as NAME: VALUE; repeatable
  --data TEXT|@FILE|-   the body of the request; - is standard input. The method is then POST by default
  --deadline TIME       how long an answer is waited for: 30s, 10m, up to 14d; default 30s
  --json                print a JSON object with status, headers and body; a body that is not UTF-8 is in base64

Example: grooveway call --edge https://edge.example.com --as alice/cli bob:api GET /status`,

  async run(args) {
    const { values, positionals } = parse("call", args, {
      ...CONNECTION_OPTIONS,
      header: { type: "string", multiple: true },
      data: { type: "string" },
      deadline: { type: "string", default: "30s" },
      json: { type: "boolean", default: false },
    });
    const [target, ...rest] = positionals;
    if (target === undefined || rest.length === 0)
      throw usage("call", "name the service and a path: ADDRESS:NAME /PATH");
    if (rest.length > 2) throw unexpected("call", rest[2]);
    const parsed = parseServiceAddress(target);
    if (!parsed.ok) throw usage("call", parsed.problems);
    const path = rest.at(-1) ?? "/";
    if (!path.startsWith("/")) throw usage("call", `the path ${printable(path)} does not begin with a slash`);
    const seconds = secondsIn(values.deadline);
    if (seconds === undefined || seconds === 0 || seconds > LONGEST) {
      throw usage("call", `--deadline ${values.deadline} is not a time of up to 14d, such as 30s or 10m`);
    }
    const headers = (values.header ?? []).map(headerIn);
    const options = deviceOptions("call", values);
    const output = Output.open();
    const body = values.data === undefined ? undefined : await bodyOf(values.data);
    const [method = body === undefined ? "GET" : "POST"] = rest.slice(0, -1);
    const interrupted = new AbortController();
    let ended: EndSignal | undefined;
    void untilInterrupted().then((signal) => {
      ended = signal;
      interrupted.abort();
    });
    const { signal } = interrupted;
    let device: Device | undefined;
    try {
      device = await Device.connect({ ...options, receive: "streams", signal });
      const { address, service } = parsed.value;
      const answer = await device.request(address, service, {
        method,
        path,
        headers,
        ...(body !== undefined && { body }),
        deadline: seconds * 1000,
        signal,
      });
      await output.write(values.json ? [jsonOf(answer)] : printed(answer, output.columns !== undefined));
      return statusOf(answer, target);
    } catch (error) {
      if (ended !== undefined && error instanceof DeviceError) return statusOfSignal(ended);
      throw error;
    } finally {
      await device?.close();
    }
  },
};

/** The longest deadline, in seconds: as long as a message waits in a mailbox. */
const LONGEST = 14 * 24 * 3600;

function headerIn(text: string): readonly [string, string] {
  const colon = text.indexOf(":");
  const [name, value] = [text.slice(0, Math.max(0, colon)), text.slice(colon + 1).trim()];
  if (isToken(name) && isHeaderValue(value)) return [name, value];
  throw usage("call", `--header ${printable(text)} is not NAME: VALUE`);
}

async function bodyOf(text: string): Promise<Uint8Array> {
  if (text === "-") return buffer(process.stdin);
  if (!text.startsWith("@")) return Buffer.from(text);
  try {
    return await readFile(text.slice(1));
  } catch (error) {
    throw unreadable(text.slice(1), error);
  }
}

/** What others wrote is escaped on a terminal; anything else gets it as it is. */
function printed({ body }: ServiceAnswer, isTerminal: boolean): (string | Uint8Array)[] {
  if (!isTerminal) return [body];
  const text = decoded(body);
  if (text === undefined) throw usage("call", "the answer is not text, which is unsafe on a terminal: add > FILE");
  const lines = text.split("\n").map(visible).join("\n");
  return [lines.endsWith("\n") || lines === "" ? lines : `${lines}\n`];
}

function jsonOf({ status, from, headers, body }: ServiceAnswer): string {
  const text = decoded(body);
  const content = text === undefined ? { base64: Buffer.from(body).toString("base64") } : { text };
  return `${jsonLine({ status, from, headers, ...content })}\n`;
}

function statusOf({ status }: ServiceAnswer, target: string): number {
  if (status < 300) return EXIT_CODES.Done.status;
  throw new CommandError("AnsweredOther", `${target} answered ${status}`);
}
