/**
 * What runs the worker for the command: its contract, and what it is given. {@link superviseWorkerd} is the product's;
 * tests have one that looks into objects.
 *
 * @module
 */
import type { CommandError } from "../command-error.ts";
import type { EdgeRun } from "./edge-run.ts";

/** A worker with its objects and variables. */
export interface WorkerDefinition {
  /** Its name, which is part of the names of its objects' folders. */
  readonly name: string;
  /** One module. */
  readonly code: string;
  readonly compatibilityDate: string;
  readonly compatibilityFlags: readonly string[];
  /** Classes of Durable Objects, with SQLite, by the names of their bindings. */
  readonly objects: Readonly<Record<string, string>>;
  /**
   * Classes of objects without storage, by the names of their bindings. A binding that {@link objects} has too is of this
   * class where the runtime knows such objects.
   */
  readonly volatile?: Readonly<Record<string, string>>;
  /** Variables by name. They may be secrets. */
  readonly texts: Readonly<Record<string, string>>;
}

/** PEM texts: a private key, and its certificate with those of its authorities. */
export interface KeyPair {
  readonly key: string;
  readonly cert: string;
}

/** Where a worker listens. */
export interface Front {
  /** An address of this machine. */
  readonly host: string;
  readonly port: number;
  /** If given, the worker speaks HTTPS. */
  readonly tls?: KeyPair | undefined;
}

export interface RuntimeOptions {
  readonly worker: WorkerDefinition;
  readonly front: Front;
  /** What its processes and temporary files belong to. */
  readonly run: EdgeRun;
  /** Folder whose `do` keeps the objects; without one they are in the temporary folder. */
  readonly state?: string | undefined;
  /** Called for each line that the worker or the runtime logs. */
  readonly log: (level: string, line: string) => void;
  /** Called with a line for the operator when the runtime has crashed. */
  readonly notice: (line: string) => void;
  /** Called when the worker has been started again: it has forgotten what it was told. */
  readonly restarted: () => void;
}

/** A request of the command to the worker, which other users of this machine cannot make. */
export interface Order {
  /** Path and query. */
  readonly path: string;
  readonly secret: string;
  readonly body?: string;
  /** Milliseconds to wait for the answer. */
  readonly patience: number;
}

export interface WorkerRuntime {
  /** Resolves with the error when the runtime does not run any more, and is not started again. */
  readonly failed: Promise<CommandError>;
  /** The process that runs the worker now; undefined while there is none, or where it is not known. */
  readonly pid?: number | undefined;
  /** Whether the worker has accepted the order; false if it does not answer. */
  tell(order: Order): Promise<boolean>;
  /** Starts the worker again, with another certificate. What it serves meanwhile is cut off. */
  renew(tls: KeyPair): Promise<void>;
  /** Ends it. */
  dispose(): Promise<void>;
}

/**
 * Starts a runtime. Resolves when the worker serves.
 *
 * @throws Error that says why it does not
 */
export type StartRuntime = (options: RuntimeOptions) => Promise<WorkerRuntime>;
