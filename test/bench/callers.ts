/** What the far side does with a connection: it is sink, source or echo, whatever carries the connection. */
import { COMMAND, type Command, parseCommand, pour, READY, type Received, Receiver, type Write } from "./blocks.ts";

/** A connection to the far side. */
export interface Caller {
  readonly write: Write;
  /** Whether it has ended. */
  readonly gone: () => boolean;
  destroy(): void;
}

/** Takes what arrives on a connection. */
export interface Answerer {
  /** Returns for how many milliseconds nothing more should be read. */
  take(octets: Uint8Array): number;
  /** The connection has ended. */
  ended(): void;
}

interface Sink {
  readonly receiver: Receiver;
  readonly finished: PromiseWithResolvers<Received>;
}

const sinks = new Map<number, Sink>();

function sinkOf(id: number): Sink {
  const known = sinks.get(id);
  if (known !== undefined) return known;
  const sink = { receiver: new Receiver(), finished: Promise.withResolvers<Received>() };
  sink.finished.promise.catch(() => undefined);
  sinks.set(id, sink);
  return sink;
}

/** What a sink has received by its end. */
export function receivedBy(id: number): Promise<Received> {
  return sinkOf(id).finished.promise.finally(() => sinks.delete(id));
}

/** What a sink has received so far. */
export function progressOf(id: number): Received {
  return sinkOf(id).receiver.result();
}

/** Follows the command that a connection begins with. */
export function answer(caller: Caller): Answerer {
  let begin: Buffer = Buffer.alloc(0);
  let follower: Answerer | undefined;
  return {
    take(octets) {
      if (follower !== undefined) return follower.take(octets);
      begin = begin.length === 0 ? Buffer.from(octets) : Buffer.concat([begin, octets]);
      if (begin.length < COMMAND) return 0;
      const command = parseCommand(begin);
      if (command === undefined) {
        // A tunnel that has lost octets, for example.
        caller.destroy();
        return 0;
      }
      follower = follow(caller, command);
      return begin.length === COMMAND ? 0 : follower.take(begin.subarray(COMMAND));
    },
    ended: () => follower?.ended(),
  };
}

function follow(caller: Caller, command: Command): Answerer {
  // Polling is established by an answer with data: a silent far side would stall its handshake.
  if (command.wish !== "source") void caller.write(READY);
  switch (command.wish) {
    case "sink":
      return sinkFor(caller, command.id, command.rate);
    case "source":
      void pour(caller.write, command.size, command.milliseconds, caller.gone);
      return { take: () => 0, ended: () => undefined };
    case "echo":
      return {
        take(octets) {
          void caller.write(octets);
          return 0;
        },
        ended: () => undefined,
      };
  }
}

function sinkFor(caller: Caller, id: number, rate: number): Answerer {
  const { receiver, finished } = sinkOf(id);
  const began = performance.now();
  return {
    take(octets) {
      try {
        receiver.push(octets);
      } catch (error) {
        finished.reject(error);
        caller.destroy();
        return 0;
      }
      if (receiver.done) finished.resolve(receiver.result());
      if (rate === 0) return 0;
      return Math.max(0, (receiver.result().octets / rate) * 1000 - (performance.now() - began));
    },
    ended: () => finished.resolve(receiver.result()),
  };
}

/** Follows the command that is the first message of a sender; the next ones are blocks. */
export function followMessages(write: Write, gone: () => boolean): (message: Uint8Array) => void {
  let command: Command | undefined;
  return (message) => {
    if (command === undefined) {
      command = parseCommand(Buffer.from(message));
      if (command?.wish === "source") void pour(write, command.size, command.milliseconds, gone);
      return;
    }
    const { receiver, finished } = sinkOf(command.id);
    try {
      receiver.push(message);
    } catch (error) {
      finished.reject(error);
    }
    if (receiver.done) finished.resolve(receiver.result());
  };
}
