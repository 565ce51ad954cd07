/** `grooveway mailbox`: lets an operator inspect and change the mailboxes of an edge. */
import { askEdge, type Question } from "../../device/transports/ask-edge.ts";
import { edgeDialler } from "../../device/transports/edge-dialler.ts";
import { jsonLine, printable, visible } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { size } from "../output.ts";
import { type Command, parse, unexpected, usage } from "../parse-arguments.ts";
import { PROFILE_OPTION, withProfile } from "../profiles/profile-options.ts";
import { PROXY_OPTIONS, proxiesOf } from "../proxy-options.ts";
import { readAuthorities } from "../tls.ts";

export const mailboxCommand: Command = {
  help: `Usage: grooveway mailbox ls|show|purge|lock|unlock|rule [ADDRESS] [options]
       grooveway mailbox rule ADDRESS [everyone|nobody|PATTERN...]

Inspects and manages the mailboxes of an edge.

  ls             list the mailboxes
  show           show one mailbox
  purge          remove its waiting messages, and those that it keeps for readers over HTTP
  lock, unlock   refuse messages from all senders, and accept them again
  rule           show who may send to it, or set that: everyone, nobody, or patterns. * is any characters of one name:
                 alice (all her devices), bob/phone, '*-bot', @relay.example.com (everything from that relay)

ADDRESS is identity or identity/device, or a URL as ls prints it.

  --profile NAME take edge and token from this profile of grooveway login; default GROOVEWAY_PROFILE, or the profile
                 default. Its token goes to its own edges only
  --edge URL     the edge; default that of the profile, or http://127.0.0.1:8787
  --token TOKEN|@FILE
                 the edge's admin token, or a token with the scope admin; default the environment variable
                 GROOVEWAY_ADMIN_TOKEN, or GROOVEWAY_TOKEN
  --proxy URL|@FILE, --proxy-credentials FILE
                 connect through a proxy, as send and recv do
  --ca FILE      certificate authorities to trust in addition to the system's (PEM)
  --json         print JSON

Example: grooveway mailbox show bob/laptop --edge https://edge.example.com --token @admin.token`,

  async run(args) {
    const { values, positionals } = parse("mailbox", args, {
      ...PROFILE_OPTION,
      edge: { type: "string" },
      ca: { type: "string" },
      ...PROXY_OPTIONS,
      token: { type: "string" },
      json: { type: "boolean", default: false },
    });
    const [action, address, ...more] = positionals;
    if (action === undefined) throw usage("mailbox", "write ls, show, purge, lock, unlock or rule after mailbox");
    if (more.length > 0 && action !== "rule") throw unexpected("mailbox", more[0]);
    const { GROOVEWAY_ADMIN_TOKEN, GROOVEWAY_TOKEN } = process.env;
    const completed = withProfile(values, { inherited: GROOVEWAY_ADMIN_TOKEN ?? GROOVEWAY_TOKEN, most: 1 });
    const { token } = completed;
    if (token === undefined)
      throw usage("mailbox", "the edge's admin token is missing: give --token, or a profile of grooveway login");
    const edge = edgeOf(completed.edge ?? "http://127.0.0.1:8787");
    const ca = completed.ca === undefined ? undefined : readAuthorities(completed.ca);
    const dialler = edgeDialler(edge.href, proxiesOf("mailbox", values), ca);
    const ask: Ask = (question) => request({ edge, ca, dialler, token: token(), ...question });

    if (action === "ls") {
      if (address !== undefined) throw usage("mailbox", "ls takes no ADDRESS");
      await list(ask, values.json);
      return 0;
    }
    const calls: Record<string, readonly [string, string]> = {
      show: ["GET", ""],
      purge: ["DELETE", ""],
      lock: ["PUT", "/lock"],
      unlock: ["DELETE", "/lock"],
      rule: [more.length > 0 ? "PUT" : "GET", "/rule"],
    };
    const call = Object.hasOwn(calls, action) ? calls[action] : undefined;
    if (call === undefined)
      throw usage("mailbox", `${printable(action)} is not one of ls, show, purge, lock, unlock and rule`);
    if (address === undefined) throw usage("mailbox", `${action} needs an ADDRESS`);
    const [method, part] = call;
    const told = await ask({
      method,
      path: `/admin/mailboxes/${encodeURIComponent(address)}${part}`,
      body: more.length > 0 ? { senders: more.join(" ") } : undefined,
      expects: action === "rule" ? isRule : isStatus,
    });
    if (values.json) console.log(jsonLine(told));
    else console.log(action === "rule" ? visible((told as Pick<Status, "senders">).senders) : describe(told as Status));
    return 0;
  },
};

/** Status of a mailbox, as the edge reports it. */
interface Status {
  readonly peer: string;
  readonly messages: number;
  readonly octets: number;
  readonly oldest?: number;
  readonly consumer?: string;
  readonly generation: number;
  readonly aside: number;
  readonly locked: boolean;
  readonly senders: string;
  readonly dropped?: Readonly<Record<string, number>>;
  /** Bytes of acknowledged messages that are kept for readers over HTTP. */
  readonly kept?: number;
  /** Why the edge cannot read it. */
  readonly reason?: string;
}

type Ask = (question: Pick<Question, "method" | "path" | "body" | "expects">) => Promise<unknown>;

const AGAIN = "the same mailboxes are listed again and again, which no edge does; look for a proxy in between";

/** The largest time that a Date can hold, in milliseconds. */
const LAST_TIME = 8.64e15;

async function list(ask: Ask, json: boolean): Promise<void> {
  for (let after = ""; ; ) {
    const path = `/admin/mailboxes${after === "" ? "" : `?after=${encodeURIComponent(after)}`}`;
    const page = (await ask({ path, expects: isPage })) as readonly Status[];
    const last = page.at(-1);
    if (last === undefined) return;
    // A proxy that ignores the query would give the same page without end.
    if (last.peer === after) throw new CommandError("NotAnEdge", AGAIN);
    for (const status of page) console.log(json ? jsonLine(status) : visible(line(status)));
    after = last.peer;
  }
}

function line({ peer, messages, octets, consumer, reason }: Status): string {
  if (reason !== undefined) return `${peer}  cannot be read [${reason}]`;
  return `${peer}  ${messages} messages, ${size(octets)}${consumer === undefined ? "" : ", connected"}`;
}

function describe(status: Status): string {
  // Who answers without TLS may lie.
  const drops = Object.entries(status.dropped ?? {}).filter(([, count]) => count > 0);
  const { oldest, kept = 0 } = status;
  const isTime = typeof oldest === "number" && Math.abs(oldest) <= LAST_TIME;
  const lines = [
    `peer        ${status.peer}`,
    `waiting     ${status.messages} messages, ${size(status.octets)}${status.aside > 0 ? `, ${status.aside} set aside` : ""}`,
    `oldest      ${isTime ? new Date(oldest).toISOString() : "–"}`,
    ...(kept > 0 ? [`kept        ${size(kept)}, for readers over HTTP`] : []),
    `consumer    ${status.consumer ?? "–"}`,
    `generation  ${status.generation}`,
    `locked      ${status.locked ? "yes" : "no"}`,
    `senders     ${status.senders}`,
    `dropped     ${drops.length === 0 ? "–" : drops.map(([name, count]) => `${name} ${count}`).join(", ")}`,
  ];
  return lines.map(visible).join("\n");
}

/** Sends a request to the edge. A refusal becomes an error with the edge's own code. */
async function request(question: Question): Promise<unknown> {
  const answer = await askEdge(question);
  if (answer.ok) return answer.value;
  throw new CommandError("Refused", `${`${answer.detail} ${answer.cure}`.trim()} [${answer.code}]`);
}

function edgeOf(text: string): URL {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return new URL(text);
  throw usage("mailbox", `--edge ${text} is not a URL such as https://edge.example.com`);
}

function isStatus(value: unknown): value is Status {
  const { peer, messages, octets } = (value ?? {}) as Partial<Status>;
  return typeof peer === "string" && typeof messages === "number" && typeof octets === "number";
}

function isPage(value: unknown): value is readonly Status[] {
  return Array.isArray(value) && value.every(isStatus);
}

function isRule(value: unknown): value is Pick<Status, "senders"> {
  return typeof (value as Partial<Status> | null)?.senders === "string";
}
