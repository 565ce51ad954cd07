/** Clients of the peers of mailboxes. */
import type { IncomingMessage } from "node:http";
import { createRequire } from "node:module";
import { agentOf, ask, begin } from "./ask.ts";
import { type Client, eachBox, type Way } from "./letters.ts";
import { byBox } from "./mail-clients.ts";
import { PEERS } from "./peers.ts";
import { type Reply, Resp } from "./resp.ts";

/**
 * Durable Streams over plain HTTP on kept-alive connections. Streams of JSON, whose batch is an array. An emptied one
 * is deleted and replaced.
 */
export async function openStreams(way: Extract<Way, { kind: "durable-streams" }>, number: number): Promise<Client> {
  const agent = agentOf(16);
  const json = { "Content-Type": "application/json" };
  // The first client creates and removes the streams; all of them write there.
  const urlOf = (box: number) => `${way.url}/${way.name}-${box}`;
  const call = async (method: string, url: string, body?: Buffer) => {
    const answer = await ask(agent, method, url, method === "GET" ? {} : json, body);
    if (answer.status >= 300) throw new Error(`${method} of durable-streams answers ${answer.status}: ${answer.text}`);
    return answer;
  };
  const create = () => eachBox(way.boxes, (box) => call("PUT", urlOf(box)));
  const read = async (box: number, give: (text: string) => void) => {
    for (let offset = "-1", done = false; !done; ) {
      const { text, headers } = await call("GET", `${urlOf(box)}?offset=${offset}`);
      for (const one of JSON.parse(text) as string[]) give(one);
      offset = String(headers["stream-next-offset"]);
      done = headers["stream-up-to-date"] === "true";
    }
  };
  if (number === 0) await create();
  return {
    append: (letters) =>
      Promise.all(
        [...byBox(letters)].map(([box, texts]) =>
          call("POST", urlOf(box), Buffer.from(JSON.stringify(texts.length === 1 ? texts[0] : texts))),
        ),
      ),
    async count(box) {
      let count = 0;
      await read(box, () => {
        count += 1;
      });
      return count;
    },
    take: (box, _count, give) => read(box, give),
    watch: (give) => (way.by === "sse" ? watchEvents(urlOf(0), give) : watchPolling(urlOf(0), give)),
    async empty() {
      await eachBox(way.boxes, (box) => call("DELETE", urlOf(box)));
      await create();
    },
    close: () => agent.destroy(),
  };
}

async function watchPolling(url: string, give: (text: string) => void): Promise<() => void> {
  const agent = agentOf();
  let stopped = false;
  const first = await ask(agent, "GET", `${url}?offset=now`);
  void (async () => {
    let offset = String(first.headers["stream-next-offset"]);
    let cursor = "";
    while (!stopped) {
      const { status, text, headers } = await ask(agent, "GET", `${url}?offset=${offset}&live=long-poll${cursor}`);
      offset = String(headers["stream-next-offset"]);
      cursor = `&cursor=${headers["stream-cursor"]}`;
      if (status === 200) for (const one of JSON.parse(text) as string[]) give(one);
    }
  })().catch(() => undefined);
  return () => {
    stopped = true;
    agent.destroy();
  };
}

async function watchEvents(url: string, give: (text: string) => void): Promise<() => void> {
  const agent = agentOf();
  const response: IncomingMessage = await begin(agent, "GET", `${url}?offset=now&live=sse`);
  let held = "";
  response.on("error", () => undefined);
  response.on("data", (octets: Buffer) => {
    const events = (held + octets.toString()).split("\n\n");
    held = events.pop() ?? "";
    for (const event of events) {
      if (!event.startsWith("event: data\n")) continue;
      const data = event.split("\n").flatMap((line) => (line.startsWith("data:") ? [line.slice(5)] : []));
      for (const one of JSON.parse(data.join("\n")) as string[]) give(one);
    }
  });
  return () => {
    response.destroy();
    agent.destroy();
  };
}

/** Redis streams: a batch is pipelined, each box is a stream. */
export async function openRedis(way: Extract<Way, { kind: "redis" }>): Promise<Client> {
  const redis = await Resp.connect(way.port);
  const keyOf = (box: number) => `${way.name}-${box}`;
  return {
    append: (letters) => Promise.all(letters.map(({ box, text }) => redis.call("XADD", keyOf(box), "*", "m", text))),
    count: async (box) => Number(await redis.call("XLEN", keyOf(box))),
    async take(box, _count, give) {
      for (let from = "-"; ; ) {
        const entries = entriesOf(await redis.call("XRANGE", keyOf(box), from, "+", "COUNT", "1000"));
        for (const { text } of entries) give(text);
        const last = entries.at(-1);
        if (last === undefined) break;
        from = `(${last.id}`;
      }
    },
    async watch(give) {
      const reader = await Resp.connect(way.port);
      void (async () => {
        for (let from = "$"; ; ) {
          const reply = await reader.call("XREAD", "BLOCK", "0", "STREAMS", keyOf(0), from);
          const streams = Array.isArray(reply) ? reply : [];
          for (const stream of streams) {
            for (const { id, text } of entriesOf(Array.isArray(stream) ? stream[1] : undefined)) {
              from = id;
              give(text);
            }
          }
        }
      })().catch(() => undefined);
      return () => reader.close();
    },
    empty: async () => void (await redis.call("DEL", ...Array.from({ length: way.boxes }, (_, box) => keyOf(box)))),
    close: () => redis.close(),
  };
}

function entriesOf(reply: Reply | undefined): { readonly id: string; readonly text: string }[] {
  return (Array.isArray(reply) ? reply : []).flatMap((entry) => {
    const [id, fields] = Array.isArray(entry) ? entry : [];
    return [{ id: String(id), text: String(Array.isArray(fields) ? fields[1] : "") }];
  });
}

// The part of mqtt used here. Its types are not installed with the product.

interface MqttClient {
  publishAsync(topic: string, message: string, options: { qos: 1 }): Promise<unknown>;
  subscribeAsync(topic: string, options: { qos: 1 }): Promise<unknown>;
  on(event: "message", listener: (topic: string, payload: Buffer) => void): void;
  endAsync(force?: boolean): Promise<void>;
}

interface MqttModule {
  connectAsync(
    url: string,
    options: { clientId: string; clean: boolean; reconnectPeriod: number },
  ): Promise<MqttClient>;
  connect(url: string, options: { clientId: string; clean: boolean; reconnectPeriod: number }): MqttClient;
}

/** MQTT: each box is a topic, to which a persistent session has subscribed with QoS 1. */
export async function openMqtt(way: Extract<Way, { kind: "mqtt" }>, number: number): Promise<Client> {
  const mqtt = createRequire(`${PEERS}package.json`)("mqtt") as MqttModule;
  const url = `mqtt://127.0.0.1:${way.port}`;
  const options = (who: string, clean: boolean) => ({ clientId: `${way.name}-${who}`, clean, reconnectPeriod: 0 });
  const topicOf = (box: number) => `${way.name}/${box}`;
  const subscribe = async (box: number) => {
    const session = await mqtt.connectAsync(url, options(`box${box}`, false));
    await session.subscribeAsync(topicOf(box), { qos: 1 });
    return session;
  };
  // The first client creates the sessions.
  await eachBox(number === 0 ? way.boxes : 0, async (box) => (await subscribe(box)).endAsync());
  const sender = await mqtt.connectAsync(url, options(`sender${number}`, true));
  return {
    append: (letters) =>
      Promise.all(letters.map(({ box, text }) => sender.publishAsync(topicOf(box), text, { qos: 1 }))),
    // The broker delivers what it keeps for a session only to that session.
    count: () => Promise.resolve(undefined),
    async take(box, count, give) {
      const session = mqtt.connect(url, options(`box${box}`, false));
      let taken = 0;
      await new Promise<void>((resolve) => {
        const idle = setTimeout(resolve, 5_000);
        session.on("message", (_topic, payload) => {
          give(payload.toString());
          taken += 1;
          idle.refresh();
          if (taken !== count) return;
          // The last acknowledgement has yet to be sent, and a surplus message has yet to arrive.
          clearTimeout(idle);
          setTimeout(resolve, 20);
        });
      });
      await session.endAsync();
    },
    async watch(give) {
      const session = await subscribe(0);
      session.on("message", (_topic, payload) => give(payload.toString()));
      return () => void session.endAsync();
    },
    // Taking has emptied it.
    empty: () => Promise.resolve(),
    close: () => sender.endAsync(),
  };
}
