/**
 * A race between the ways to a relay: finds one that works without waiting for those that do not. Pure: times and
 * events go in, commands come out.
 *
 *   start ─► connected ─► echoed ─► Connect ─► proven
 *
 * The best way starts first, and on an open network it has won before the next one starts. A way that fails lets the
 * next start at once, and a slow one keeps running beside it. A way counts as working only when it has carried bytes
 * both ways and the relay has answered: a proxy that buffers passes everything but that.
 *
 * At most one way says Connect at a time, because the relay closes a device's older connection when a newer one says it.
 *
 * @module
 */
import {
  ANSWER_WAIT,
  CONNECTED_PATIENCE,
  CONNECTED_WAIT,
  ECHO_WAIT,
  LEAST_RUN,
  OTHER_PATH_WAIT,
  PROVEN_PATIENCE,
  RACE_PATIENCE,
  RAW_ANSWER_WAIT,
  RUNNING_WAYS,
  SAME_PATH_WAIT,
} from "../limits.ts";

/** A way that takes part. */
export interface Runner {
  /** Unique in its race. */
  readonly id: string;
  /** Equal for ways that share the connection to the same server: if one cannot connect, none can. */
  readonly path: string;
  /** Whether its echo proves that bytes pass both ways. Otherwise only the relay's answer does. */
  readonly echoes: boolean;
  /** Milliseconds that it must stand after its echo before it may say Connect. Default 0. */
  readonly trial?: number | undefined;
}

/** What the caller must do. */
export type RaceCommand =
  /** Open the way, and report `connected`, `echoed` or `failed`. */
  | { readonly type: "start"; readonly id: string }
  /** Say Connect, and report `connecting`, then `proven` or `failed`. */
  | { readonly type: "connect"; readonly id: string }
  /** Close the way. If it was `connecting`, its Connect may still arrive. */
  | { readonly type: "close"; readonly id: string; readonly connecting: boolean }
  /** Tell the user what the ways have met so far: nothing has come back on any, but an edge may only be slow. */
  | { readonly type: "slow" }
  /** Use this way. The race is over. */
  | { readonly type: "won"; readonly id: string }
  /** No way works. The race is over. */
  | { readonly type: "lost" };

/** How far a way has come. `granted`: it may say Connect. */
export type RaceStage = "started" | "connected" | "echoed" | "granted" | "connecting";

/** Why a way is out of the race. */
export interface RaceFailure<E> {
  readonly id: string;
  readonly stage: RaceStage;
  /** Undefined if it was silent for too long. */
  readonly error: E | undefined;
}

export interface RaceOptions {
  /** Best first. */
  readonly runners: readonly Runner[];
  readonly now: number;
  /** The first way is known to work in this network, so the second leaves it more time. Default false. */
  readonly isFirstKnown?: boolean | undefined;
}

interface Running {
  readonly runner: Runner;
  readonly startedAt: number;
  stage: RaceStage;
  /** When it reached its stage. */
  since: number;
  /** Milliseconds from start to connection, and to the echo; 0 before. */
  dialTime: number;
  echoTime: number;
}

/** One race. `E` is the error that the caller reports for a way. */
export class Race<E> {
  readonly #startedAt: number;
  readonly #isFirstKnown: boolean;
  #untried: Runner[];
  readonly #running = new Map<string, Running>();
  readonly #failures: RaceFailure<E>[] = [];
  /** When the next way may start. */
  #nextAt: number;
  #started = 0;
  /** Whether any way has connected. */
  #hasConnected = false;
  #hasTold = false;
  #isOver = false;

  constructor({ runners, now, isFirstKnown = false }: RaceOptions) {
    this.#startedAt = now;
    this.#nextAt = now;
    this.#untried = [...runners];
    this.#isFirstKnown = isFirstKnown;
  }

  /** Ways that failed, in order. */
  get failures(): readonly RaceFailure<E>[] {
    return this.#failures;
  }

  /** Ways that have not failed yet, as failures by silence. */
  get pending(): readonly RaceFailure<E>[] {
    return [...this.#running.values()].map(({ runner: { id }, stage }) => ({ id, stage, error: undefined }));
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** When to call `advance`; Infinity for never. */
  get deadline(): number {
    if (this.#isOver) return Number.POSITIVE_INFINITY;
    const times = [...this.#running.values()].map((running) => Math.min(this.#dueAt(running), this.#readyAt(running)));
    return Math.min(this.#startAt, this.#slowAt, ...times);
  }

  /** The way's connection is made, TLS included. */
  connected(id: string, now: number): RaceCommand[] {
    const running = this.#running.get(id);
    if (running === undefined || running.stage !== "started") return [];
    running.dialTime = now - running.startedAt;
    // The path is open, so the next way on it need not wait for the connection any more.
    if (!this.#hasProgress()) this.#nextAt = now;
    this.#reach(running, "connected", now);
    const wait = this.#hasConnected ? CONNECTED_WAIT : ECHO_WAIT;
    this.#hasConnected = true;
    this.#wait(now + Math.max(wait, Math.min(ANSWER_WAIT, running.dialTime)));
    return this.advance(now);
  }

  /** The way has carried bytes both ways, or cannot show that without a Connect. */
  echoed(id: string, now: number): RaceCommand[] {
    const running = this.#running.get(id);
    if (running === undefined || (running.stage !== "started" && running.stage !== "connected")) return [];
    running.echoTime = now - running.startedAt;
    this.#reach(running, "echoed", now);
    this.#awaitAnswer(running, now);
    return this.advance(now);
  }

  /** The way has been told to connect, and says Connect now. */
  connecting(id: string, now: number): RaceCommand[] {
    const running = this.#running.get(id);
    if (running?.stage !== "granted") return [];
    this.#reach(running, "connecting", now);
    this.#awaitAnswer(running, now);
    return this.advance(now);
  }

  /** The relay has answered: the way works. */
  proven(id: string): RaceCommand[] {
    if (this.#isOver || this.#running.get(id)?.stage !== "connecting") return [];
    this.#running.delete(id);
    return [...this.#end(), { type: "won", id }];
  }

  /** The way has failed and is closed. */
  failed(id: string, error: E, now: number): RaceCommand[] {
    const running = this.#running.get(id);
    if (this.#isOver || running === undefined) return [];
    this.#remove(running, error, now);
    return this.advance(now);
  }

  /** The relay has refused the device, whatever the way. */
  refused(id: string, error: E): RaceCommand[] {
    const running = this.#running.get(id);
    if (this.#isOver || running === undefined) return [];
    this.#running.delete(id);
    this.#failures.push({ id, stage: running.stage, error });
    return [...this.#end(), { type: "lost" }];
  }

  /** Closes all ways. */
  abandon(): RaceCommand[] {
    return this.#end();
  }

  /** Starts, closes and promotes what is due. */
  advance(now: number): RaceCommand[] {
    if (this.#isOver) return [];
    const commands: RaceCommand[] = [];
    for (const running of [...this.#running.values()]) {
      if (now >= this.#dueAt(running)) commands.push(...this.#drop(running, now));
    }
    this.#grant(now, commands);
    while (now >= this.#startAt) {
      if (this.#running.size >= RUNNING_WAYS) {
        const victim = [...this.#running.values()].find((running) => now >= this.#sparedUntil(running));
        if (victim === undefined) break;
        this.#running.delete(victim.runner.id);
        this.#failures.push({ id: victim.runner.id, stage: victim.stage, error: undefined });
        commands.push({ type: "close", id: victim.runner.id, connecting: false });
      }
      commands.push(...this.#start(now));
    }
    if (this.#running.size > 0 || this.#untried.length > 0) {
      if (now < this.#slowAt) return commands;
      this.#hasTold = true;
      return [...commands, { type: "slow" }];
    }
    this.#isOver = true;
    return [...commands, { type: "lost" }];
  }

  #start(now: number): RaceCommand[] {
    const runner = this.#next;
    if (runner === undefined) return [];
    this.#untried = this.#untried.filter((other) => other !== runner);
    this.#running.set(runner.id, { runner, startedAt: now, stage: "started", since: now, dialTime: 0, echoTime: 0 });
    this.#started += 1;
    const isPatient = this.#isConnecting(this.#next?.path) || (this.#isFirstKnown && this.#started === 1);
    this.#nextAt = now + (isPatient ? SAME_PATH_WAIT : OTHER_PATH_WAIT);
    return [{ type: "start", id: runner.id }];
  }

  /** The best way that is left, by a path that is not being connected if there is one. */
  get #next(): Runner | undefined {
    return this.#untried.find(({ path }) => !this.#isConnecting(path)) ?? this.#untried[0];
  }

  #isConnecting(path: string | undefined): boolean {
    return [...this.#running.values()].some(({ runner, stage }) => stage === "started" && runner.path === path);
  }

  /** Whether a way has come further than its start. */
  #hasProgress(): boolean {
    return [...this.#running.values()].some(({ stage }) => stage !== "started");
  }

  #reach(running: Running, stage: RaceStage, now: number): void {
    running.stage = stage;
    running.since = now;
  }

  /** Progress of one way lets the next one wait. */
  #wait(until: number): void {
    this.#nextAt = Math.max(this.#nextAt, until);
  }

  #awaitAnswer({ runner }: Running, now: number): void {
    this.#wait(now + (runner.echoes ? CONNECTED_WAIT : ECHO_WAIT));
  }

  /** Lets the best way that has echoed and stood its trial say Connect. A silent one makes room for it. */
  #grant(now: number, commands: RaceCommand[]): void {
    const ready = [...this.#running.values()].find((running) => now >= this.#readyAt(running));
    if (ready === undefined) return;
    const holder = this.#holder();
    if (holder !== undefined) {
      if (now < this.#answerDueAt(holder)) return;
      commands.push(...this.#drop(holder, now));
    }
    this.#reach(ready, "granted", now);
    this.#awaitAnswer(ready, now);
    commands.push({ type: "connect", id: ready.runner.id });
  }

  #holder(): Running | undefined {
    return [...this.#running.values()].find(({ stage }) => stage === "granted" || stage === "connecting");
  }

  /** When another way may take the place of one that waits for its relay's answer. */
  #answerDueAt({ stage, since, runner, echoTime }: Running): number {
    if (stage !== "connecting") return Number.POSITIVE_INFINITY;
    return since + Math.max(runner.echoes ? ANSWER_WAIT : RAW_ANSWER_WAIT, 2 * echoTime);
  }

  /** When a way that has echoed may say Connect. */
  #readyAt({ stage, since, runner }: Running): number {
    if (stage !== "echoed") return Number.POSITIVE_INFINITY;
    const holder = this.#holder();
    return Math.max(since + (runner.trial ?? 0), holder === undefined ? since : this.#answerDueAt(holder));
  }

  /** When a way is given up. */
  #dueAt({ runner, stage, since, startedAt }: Running): number {
    switch (stage) {
      case "started":
        return Math.max(this.#startedAt + RACE_PATIENCE, startedAt + LEAST_RUN);
      case "connected":
        return since + CONNECTED_PATIENCE;
      case "connecting":
        return since + (runner.echoes ? PROVEN_PATIENCE : CONNECTED_PATIENCE);
      default:
        return Number.POSITIVE_INFINITY;
    }
  }

  /** When to tell that nothing has come back, unless something has. */
  get #slowAt(): number {
    const hasEchoed = [...this.#running.values()].some(({ stage }) => stage !== "started" && stage !== "connected");
    return this.#hasTold || hasEchoed ? Number.POSITIVE_INFINITY : this.#startedAt + RACE_PATIENCE;
  }

  /** When the next way starts. */
  get #startAt(): number {
    // A way that has echoed and waits for its turn is better than another.
    const isWaiting = ({ runner, stage }: Running) => stage === "echoed" && runner.echoes && !runner.trial;
    const running = [...this.#running.values()];
    if (this.#untried.length === 0 || running.some(isWaiting)) return Number.POSITIVE_INFINITY;
    if (running.length < RUNNING_WAYS) return this.#nextAt;
    return Math.max(this.#nextAt, Math.min(...running.map((one) => this.#sparedUntil(one))));
  }

  /** Until when a way keeps its place although others wait. */
  #sparedUntil({ runner, stage, since, dialTime }: Running): number {
    // The next way on the same path would not connect either.
    if (stage === "started" && runner.path !== this.#next?.path) return since + LEAST_RUN;
    if (stage === "connected") return since + Math.max(LEAST_RUN, 2 * dialTime);
    return Number.POSITIVE_INFINITY;
  }

  /** Closes a way that was silent for too long. */
  #drop(running: Running, now: number): RaceCommand[] {
    this.#remove(running, undefined, now);
    return [{ type: "close", id: running.runner.id, connecting: running.stage === "connecting" }];
  }

  #remove({ runner, stage }: Running, error: E | undefined, now: number): void {
    this.#running.delete(runner.id);
    this.#failures.push({ id: runner.id, stage, error });
    if (stage === "started") this.#forsake(runner.path, error);
    // Others that have come further than this one still get their time.
    if (!this.#hasProgress()) this.#nextAt = now;
  }

  /** A path that cannot be connected is closed to all its ways. */
  #forsake(path: string, error: E | undefined): void {
    const [same, others] = [
      this.#untried.filter((runner) => runner.path === path),
      this.#untried.filter((runner) => runner.path !== path),
    ];
    this.#untried = others;
    for (const { id } of same) this.#failures.push({ id, stage: "started", error });
  }

  #end(): RaceCommand[] {
    this.#isOver = true;
    const left = [...this.#running.values()];
    this.#running.clear();
    this.#untried = [];
    return left.map(({ runner: { id }, stage }) => ({ type: "close", id, connecting: stage === "connecting" }));
  }
}
