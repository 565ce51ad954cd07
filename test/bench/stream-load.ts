/**
 * The client of servers of streams, in a process of its own: what it measures is said in mailboxes.ts. Each call makes
 * streams of its own, and what is lost or doubled is counted.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "../support/rpc.ts";
import { agentOf, ask, begin } from "./ask.ts";

/** Octets of a message: JSON, so that a batch is an array. */
const MESSAGE = 100;

/** Octets of one append when a long stream is made. */
const PIECE = 1024 * 1024;

/** Time for a request to be parked. */
const PARKING = 5;

/** Time for a thousand requests to be parked. */
const ALL_PARKING = 2000;

export interface Measured {
  readonly messages: number;
  readonly milliseconds: number;
  readonly lost: number;
  readonly duplicated: number;
  /** Milliseconds of each event, where events are measured. */
  readonly samples?: readonly number[];
}

const JSON_TYPE = { "Content-Type": "application/json" };
const OCTETS_TYPE = { "Content-Type": "application/octet-stream" };

let last = 0;
/** A URL that nobody has used. */
function fresh(base: string): string {
  last += 1;
  return `${base}/${process.pid}-${last}`;
}

const agent = agentOf(64);

async function call(method: string, url: string, headers: Record<string, string> = {}, body?: Buffer) {
  const answer = await ask(agent, method, url, headers, body);
  if (answer.status >= 300) throw new Error(`${method} answers ${answer.status}: ${answer.text}`);
  return answer;
}

/** Creates a stream, and returns its URL and its end. */
async function create(base: string, headers = JSON_TYPE): Promise<{ url: string; tail: string }> {
  const url = fresh(base);
  const { headers: said } = await call("PUT", url, headers);
  return { url, tail: String(said["stream-next-offset"]) };
}

/** The message of a number. */
function message(number: number): string {
  return JSON.stringify(`${number}.`.padEnd(MESSAGE - 2, "0123456789abcdef"));
}

/** Counts what is missing and what is there twice of so many messages. */
function compare(numbers: readonly number[], sent: number): Pick<Measured, "lost" | "duplicated"> {
  const seen = new Set(numbers);
  return { lost: sent - seen.size, duplicated: numbers.length - seen.size };
}

const numberOf = (text: string) => Number(text.split(".")[0]);

async function readAll(url: string): Promise<number[]> {
  const numbers: number[] = [];
  for (let [offset, done] = ["-1", false]; !done; ) {
    const { text, headers } = await call("GET", `${url}?offset=${offset}`);
    for (const one of JSON.parse(text) as string[]) numbers.push(numberOf(one));
    offset = String(headers["stream-next-offset"]);
    done = headers["stream-up-to-date"] === "true";
  }
  return numbers;
}

interface Append {
  readonly base: string;
  readonly batch: number;
  readonly outstanding: number;
  readonly milliseconds: number;
}

async function append({ base, batch, outstanding, milliseconds }: Append): Promise<Measured> {
  const { url } = await create(base);
  let sent = 0;
  const begin = performance.now();
  const write = async () => {
    while (performance.now() - begin < milliseconds) {
      const texts = Array.from({ length: batch }, (_, n) => message(sent + n));
      sent += batch;
      await call("POST", url, JSON_TYPE, Buffer.from(batch === 1 ? (texts[0] ?? "") : `[${texts.join(",")}]`));
    }
  };
  await Promise.all(Array.from({ length: outstanding }, write));
  const taken = performance.now() - begin;
  return { messages: sent, milliseconds: taken, ...compare(await readAll(url), sent) };
}

/** Milliseconds from an append to the answer of a long-poll that was parked. */
async function latency({ base, count }: { readonly base: string; readonly count: number }): Promise<Measured> {
  const { url, tail } = await create(base);
  let [offset, cursor] = [tail, ""];
  const samples: number[] = [];
  const numbers: number[] = [];
  for (let n = 0; n < count; n += 1) {
    const polled = call("GET", `${url}?offset=${offset}&live=long-poll${cursor}`);
    await sleep(PARKING);
    const begin = performance.now();
    const [{ text, headers }] = await Promise.all([
      polled.then((answer) => {
        samples.push(performance.now() - begin);
        return answer;
      }),
      call("POST", url, JSON_TYPE, Buffer.from(message(n))),
    ]);
    numbers.push(...(JSON.parse(text) as string[]).map(numberOf));
    offset = String(headers["stream-next-offset"]);
    cursor = `&cursor=${headers["stream-cursor"]}`;
  }
  return { messages: count, milliseconds: 0, samples, ...compare(numbers, count) };
}

/** Milliseconds of an append alone, to any server that takes a POST, at the same pace as {@link latency}. */
async function post({ base, count }: { readonly base: string; readonly count: number }): Promise<Measured> {
  const url = fresh(base);
  const samples: number[] = [];
  for (let n = 0; n < count; n += 1) {
    await sleep(PARKING);
    const begin = performance.now();
    await call("POST", url, JSON_TYPE, Buffer.from(message(n)));
    samples.push(performance.now() - begin);
  }
  return { messages: count, milliseconds: 0, samples, lost: 0, duplicated: 0 };
}

interface Readers {
  readonly base: string;
  readonly readers: number;
  readonly count: number;
}

/** Milliseconds from an append until all readers of events have it. */
async function fanOut({ base, readers, count }: Readers): Promise<Measured> {
  const { url, tail } = await create(base);
  const own = agentOf();
  const got: number[][] = [];
  let wake: () => void = () => undefined;
  const responses = await Promise.all(
    Array.from({ length: readers }, async () => {
      const response = await begin(own, "GET", `${url}?offset=${tail}&live=sse`);
      const numbers: number[] = [];
      got.push(numbers);
      let held = "";
      response.on("error", () => undefined);
      response.on("data", (octets: Buffer) => {
        const events = (held + octets.toString()).split("\n\n");
        held = events.pop() ?? "";
        for (const event of events) {
          if (!event.startsWith("event: data\n")) continue;
          const lines = event.split("\n").flatMap((line) => (line.startsWith("data:") ? [line.slice(5)] : []));
          numbers.push(...(JSON.parse(lines.join("\n")) as string[]).map(numberOf));
        }
        wake();
      });
      return response;
    }),
  );
  await sleep(500);
  const samples: number[] = [];
  for (let n = 0; n < count; n += 1) {
    const begin = performance.now();
    const all = new Promise<void>((resolve) => {
      wake = () => {
        if (got.every((numbers) => numbers.length > n)) resolve();
      };
    });
    await Promise.all([all, call("POST", url, JSON_TYPE, Buffer.from(message(n)))]);
    samples.push(performance.now() - begin);
  }
  for (const response of responses) response.destroy();
  own.destroy();
  const compared = got.map((numbers) => compare(numbers, count));
  const sum = (of: "lost" | "duplicated") => compared.reduce((total, one) => total + one[of], 0);
  return {
    messages: count * readers,
    milliseconds: 0,
    samples,
    lost: sum("lost"),
    duplicated: sum("duplicated"),
  };
}

/** Milliseconds from an append until all long-polls that were parked are answered. */
async function parked({ base, readers }: Omit<Readers, "count">): Promise<Measured> {
  const { url, tail } = await create(base);
  const own = agentOf();
  const begun = performance.now();
  let end = 0;
  const polls = Promise.all(
    Array.from({ length: readers }, async (_, n) => {
      const { status, text } = await ask(own, "GET", `${url}?offset=${tail}&live=long-poll&cursor=${n}`);
      end = performance.now();
      return status === 200 ? (JSON.parse(text) as string[]).map(numberOf) : [];
    }),
  );
  await sleep(ALL_PARKING);
  const begin = performance.now();
  await call("POST", url, JSON_TYPE, Buffer.from(message(0)));
  const got = await polls;
  own.destroy();
  if (begin - begun > 20_000) throw new Error("the long-polls were not parked in time");
  const lost = got.filter((numbers) => numbers.length === 0).length;
  return { messages: readers, milliseconds: end - begin, samples: [end - begin], lost, duplicated: 0 };
}

const long = new Map<string, string>();

/** Reads a stream of so many octets from its beginning to its end. */
async function catchUp({ base, octets }: { readonly base: string; readonly octets: number }): Promise<Measured> {
  let url = long.get(base);
  if (url === undefined) {
    ({ url } = await create(base, OCTETS_TYPE));
    const piece = Buffer.alloc(PIECE, "0123456789abcdef");
    for (let at = 0; at < octets; at += PIECE) await call("POST", url, OCTETS_TYPE, piece.subarray(0, octets - at));
    long.set(base, url);
  }
  const start = performance.now();
  let read = 0;
  for (let [offset, done] = ["-1", false]; !done; ) {
    const response = await begin(agent, "GET", `${url}?offset=${offset}`);
    await new Promise<void>((resolve, reject) => {
      response.on("data", (part: Buffer) => {
        read += part.length;
      });
      response.once("end", resolve);
      response.once("error", reject);
    });
    offset = String(response.headers["stream-next-offset"]);
    done = response.headers["stream-up-to-date"] === "true";
  }
  return { messages: read, milliseconds: performance.now() - start, lost: octets - read, duplicated: 0 };
}

interface Making {
  readonly base: string;
  readonly method: "POST" | "PUT";
  /** Of each URL. */
  readonly query?: string;
  readonly outstanding: number;
  readonly milliseconds: number;
}

/** One request with a message to each of as many new names as fit into the time. */
async function make({ base, method, query = "", outstanding, milliseconds }: Making): Promise<Measured> {
  let made = 0;
  const body = Buffer.from(message(0));
  const start = performance.now();
  const run = async () => {
    while (performance.now() - start < milliseconds) {
      await call(method, fresh(base) + query, JSON_TYPE, body);
      made += 1;
    }
  };
  await Promise.all(Array.from({ length: outstanding }, run));
  return { messages: made, milliseconds: performance.now() - start, lost: 0, duplicated: 0 };
}

serve({ append, latency, post, fanOut, parked, catchUp, make });
