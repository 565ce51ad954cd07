/**
 * The configuration of workerd, as the text of a Cap'n Proto constant [workerd.capnp]. Pure.
 *
 * @module
 */
import { formatHostPort } from "../../lib/host-port.ts";
import type { Front, WorkerDefinition } from "./worker-runtime.ts";

/** Names of the sockets, which workerd reports when it listens. */
export const FRONT_SOCKET = "front";
export const COMMAND_SOCKET = "command";

/** Files beside the configuration, which it embeds. */
export const WORKER_FILE = "worker.js";
export const KEY_FILE = "tls.key";
export const CERT_FILE = "tls.crt";

/**
 * Flags of V8. A young generation of 4 MiB, a quarter of V8's own choice, takes no more time: the edge's objects live
 * for one call or for long. It saves 40 MiB when somebody sends thousands of commands.
 */
export const V8_FLAGS = ["--max-semi-space-size=4"];

export interface WorkerdConfig {
  readonly worker: WorkerDefinition;
  readonly front: Omit<Front, "tls">;
  /** Whether {@link KEY_FILE} and {@link CERT_FILE} are there. */
  readonly isTls: boolean;
  /** Absolute path of the folder for the objects. */
  readonly objects: string;
  /** Where the command asks, in workerd's notation. */
  readonly command: string;
  /** Certificates to trust besides those of the system, PEM texts. */
  readonly authorities: readonly string[];
}

/** The text of the configuration. */
export function formatWorkerdConfig(config: WorkerdConfig): string {
  const { worker, front, isTls, objects, command, authorities } = config;
  const tls = `(keypair = (privateKey = embed ${text(KEY_FILE)}, certificateChain = embed ${text(CERT_FILE)}))`;
  const bindings = [
    ...Object.entries(worker.texts).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`),
    ...Object.entries({ ...worker.objects, ...worker.volatile }).map(
      ([name, className]) => `(name = ${text(name)}, durableObjectNamespace = ${text(className)})`,
    ),
  ];
  // The key is the name of the folder of a class, and part of the ids of its objects: it must never change.
  const stored = ({ className }: ObjectClass) =>
    `(className = ${text(className)}, enableSql = true, uniqueKey = ${text(`${worker.name}-${className}`)})`;
  const volatile = ({ className }: ObjectClass) => `(className = ${text(className)}, ephemeralLocal = void)`;
  const namespaces = classesOf(worker).map((one) => (one.isStored ? stored(one) : volatile(one)));
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "worker", worker = (
      modules = [(name = ${text(WORKER_FILE)}, esModule = embed ${text(WORKER_FILE)})],
      compatibilityDate = ${text(worker.compatibilityDate)},
      compatibilityFlags = ${list(worker.compatibilityFlags.map(text))},
      bindings = ${list(bindings)},
      durableObjectNamespaces = ${list(namespaces)},
      durableObjectStorage = (localDisk = "objects"))),
    (name = "objects", disk = (path = ${text(objects)}, writable = true)),
    # The edge checks each address itself; some origin relays are in private networks.
    (name = "internet", network = (
      allow = ["public", "private", "240.0.0.0/4"],
      tlsOptions = (trustBrowserCas = true, trustedCertificates = ${list(authorities.map(text))})))
  ],
  sockets = [
    (name = ${text(FRONT_SOCKET)}, service = "worker", address = ${text(formatHostPort(front))}, ${
      isTls ? `https = (options = (), tlsOptions = ${tls})` : "http = ()"
    }),
    (name = ${text(COMMAND_SOCKET)}, service = "worker", address = ${text(command)}, http = ())
  ],
  v8Flags = ${list(V8_FLAGS.map(text))},
  structuredLogging = true
);
`;
}

interface ObjectClass {
  readonly className: string;
  readonly isStored: boolean;
}

function classesOf({ objects, volatile = {} }: WorkerDefinition): ObjectClass[] {
  const stored = Object.entries(objects).filter(([name]) => volatile[name] === undefined);
  return [
    ...stored.map(([, className]) => ({ className, isStored: true })),
    ...Object.values(volatile).map((className) => ({ className, isStored: false })),
  ];
}

function list(items: readonly string[]): string {
  return `[${items.join(", ")}]`;
}

const NOT_PLAIN = /[^\x20-\x7e]+|["\\]/g;

/** A text of Cap'n Proto: bytes beyond printable ASCII are written as numbers, which no text can leave. */
function text(value: string): string {
  return `"${value.replace(NOT_PLAIN, numbers)}"`;
}

function numbers(value: string): string {
  return [...new TextEncoder().encode(value)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}
