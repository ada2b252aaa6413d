// What the scenario is made of: packages, the loaded contract, one stream with everything it got, and the steps.
//
// Nothing here sleeps as a condition: every wait is for an event, and has a timeout that names what did not come.

import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";

const here = path.dirname(fileURLToPath(import.meta.url));
// Packages are installed outside the checkout's sources; `require` can be told where, `import` cannot.
const packages = process.env.SALON_NODE_PACKAGES ?? here;
const require = createRequire(path.join(packages, "package.json"));
export const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

export const ROOT = path.resolve(here, "../../..");
// Generous: a wait ends when its event comes, and a busy machine must not fail a run.
export const TIMEOUT_MS = 15_000;
// A scenario builds on its earlier steps: after so many failures the rest says nothing new.
const MAX_FAILURES = 5;

export class Failure extends Error {}

export function check(condition, message, ...values) {
  if (!condition) throw new Failure([message, ...values.map((v) => JSON.stringify(v))].join(" "));
}

export function equal(got, want, what) {
  check(isDeepStrictEqual(got, want), `${what}: got`, got, want);
}

// Loads a .proto at run time. Enums are names, 64-bit numbers are numbers (positions are far below 2^53), fields
// that were not sent have their default, but for members of a oneof and optional ones.
export function load(file, root) {
  const options = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };
  return grpc.loadPackageDefinition(protoLoader.loadSync(file, { ...options, includeDirs: [root] }));
}

// The path of a .proto that an npm package ships.
export function shipped(name, file) {
  return path.join(packages, "node_modules", name, file);
}

// A constructor of clients whose stream events keep the bytes they came as, in `raw`.
export function withRawEvents(service) {
  const { RoomSession, ...rest } = service;
  const decode = RoomSession.responseDeserialize;
  const responseDeserialize = (raw) => ({ raw, ...decode(raw) });
  return grpc.makeGenericClientConstructor({ ...rest, RoomSession: { ...RoomSession, responseDeserialize } });
}

// A unary call as a promise.
export function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + TIMEOUT_MS;
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// A unary call that must fail with a status; gives the status's message.
export async function refused(code, client, method, request) {
  let answer;
  try {
    answer = await call(client, method, request);
  } catch (error) {
    equal(error.code, code, `status of ${method} (${error.details})`);
    return error.details;
  }
  throw new Failure(`${method} must be refused, answered ${JSON.stringify(answer)}`);
}

// One RoomSession stream: what is sent, and every event in the order it came.
export class Session {
  constructor(client, name) {
    this.name = name;
    this.all = [];
    this.status = null;
    this.pending = [];
    this.waiting = new Set();
    this.requests = 0;
    this.stream = client.RoomSession();
    this.stream.on("data", (event) => {
      const got = { ...event, kind: event.payload, body: event[event.payload] };
      this.all.push(got);
      this.pending.push(got);
      this.wake();
    });
    this.stream.on("error", () => {}); // What it says arrives as the status, too.
    this.stream.on("status", (status) => {
      this.status = status;
      this.wake();
    });
  }

  wake() {
    for (const look of [...this.waiting]) look();
  }

  // Resolves with the first value that `look` gives; rejects with what `complaint` says when none comes.
  until(look, complaint) {
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.waiting.delete(attempt);
      };
      const attempt = () => {
        const found = look();
        if (found !== undefined) {
          end();
          resolve(found);
        } else if (this.status !== null) {
          end();
          reject(new Failure(`${complaint()}; the stream ended with ${JSON.stringify(this.status)}`));
        }
      };
      const timer = setTimeout(() => {
        end();
        reject(new Failure(complaint()));
      }, TIMEOUT_MS);
      this.waiting.add(attempt);
      attempt();
    });
  }

  // Takes the first event that was not taken yet and fits; waits for it when there is none.
  take(where, what) {
    const look = () => {
      const index = this.pending.findIndex(where);
      return index < 0 ? undefined : this.pending.splice(index, 1)[0];
    };
    const rest = () => this.pending.slice(-12).map((event) => event.kind).join(", ") || "nothing";
    return this.until(look, () => `${this.name}: no ${what} came; not taken: ${rest()}`);
  }

  expect(kind, where = () => true) {
    return this.take((event) => event.kind === kind && where(event), kind);
  }

  has(kind) {
    return this.pending.some((event) => event.kind === kind);
  }

  drop(kind) {
    this.pending = this.pending.filter((event) => event.kind !== kind);
  }

  async ended() {
    await this.until(() => (this.status === null ? undefined : true), () => `${this.name}: the stream does not end`);
    return this.status.code;
  }

  send(payload, request_id = "") {
    this.stream.write({ ...payload, request_id });
  }

  halfClose() {
    this.stream.end();
  }

  cancel() {
    this.stream.cancel();
  }

  // Sends a command with a request_id of its own and gives the id.
  command(payload) {
    this.requests += 1;
    const id = `${this.name}-${this.requests}`;
    this.send(payload, id);
    return id;
  }

  // Sends a command and waits for its ack.
  done(payload) {
    return this.answer(this.command(payload));
  }

  async answer(id) {
    const event = await this.reply(id);
    check(event.kind === "ack", `${this.name}: ${id} was refused:`, event.body);
    return event.body;
  }

  // Sends a command that must be refused with a code, and gives the error.
  denied(code, payload) {
    return this.rejection(this.command(payload), code);
  }

  async rejection(id, code) {
    const event = await this.reply(id);
    equal(event.kind, "error", `${this.name}: the answer to ${id}`);
    equal(event.body.code, code, `${this.name}: the code (${event.body.message})`);
    return event.body;
  }

  reply(id) {
    const isReply = (event) => ["ack", "error"].includes(event.kind) && event.request_id === id;
    return this.take(isReply, `answer to ${id}`);
  }

  // The events of the room's log that this stream got after its join.
  lasting() {
    return this.all.filter((event) => event.seq && !["room_state", "resumed"].includes(event.kind));
  }
}

const steps = [];

export function step(name, run) {
  steps.push({ name, run });
}

// Runs every step in order and leaves the process: open streams must not hold it up.
export async function runSteps() {
  let [passed, failed] = [0, 0];
  console.log(`1..${steps.length}`);
  for (const [index, { name, run }] of steps.entries()) {
    const label = `${String(index + 1).padStart(2, "0")} ${name}`;
    if (failed >= MAX_FAILURES) {
      failed += 1;
      console.log(`not ok ${label} # not run`);
      continue;
    }
    try {
      await run();
      passed += 1;
      console.log(`ok ${label}`);
    } catch (error) {
      failed += 1;
      console.log(`not ok ${label}`);
      for (const line of String(error.stack).split("\n").slice(0, 8)) console.log(`  # ${line}`);
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
