/** One HTTP request on a kept-alive connection, by node:http, which costs a client less than fetch. */
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";

export interface Answered {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** Connections are kept for less time than servers keep them: one that closes as it is reused would be a failure. */
export function agentOf(maxSockets = Number.POSITIVE_INFINITY): Agent {
  return new Agent({ keepAlive: true, maxSockets, timeout: 2_000 });
}

export async function ask(
  agent: Agent,
  method: string,
  url: string,
  headers: Readonly<Record<string, string>> = {},
  body?: Buffer,
): Promise<Answered> {
  const response = await begin(agent, method, url, headers, body);
  const parts: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    response.on("data", (part: Buffer) => parts.push(part));
    response.once("end", resolve);
    response.once("error", reject);
  });
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    text: (parts.length === 1 ? parts[0] : Buffer.concat(parts))?.toString() ?? "",
  };
}

/** Resolves with the response once its headers have arrived. */
export function begin(
  agent: Agent,
  method: string,
  url: string,
  headers: Readonly<Record<string, string>> = {},
  body?: Buffer,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { "Content-Length": String(body.length) };
    const sent = request(url, { agent, method, headers: { ...headers, ...length } }, resolve);
    sent.once("error", reject);
    sent.end(body);
  });
}
