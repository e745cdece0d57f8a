// A program as an agency writes one: its client is generated from the document that the server gives, and all that
// it sends and reads is checked against that by the compiler. It is called with the API's address and a key.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const [baseUrl, key] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

type Problem = components["schemas"]["ErrorModel"];

function must<T>(what: string, answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.data === undefined) {
    throw new Error(`${what}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data;
}

function refused(what: string, answer: { error?: Problem; response: Response }, status: number, type: Problem["type"]): Response {
  if (answer.response.status !== status || answer.error?.type !== type) {
    throw new Error(`${what}: ${answer.response.status} ${JSON.stringify(answer.error)}, want ${status} ${type}`);
  }
  return answer.response;
}

function equal(what: string, got: unknown, want: unknown): void {
  if (JSON.stringify(got) !== JSON.stringify(want)) {
    throw new Error(`${what}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  }
}

const importing = () =>
  api.POST("/imports", {
    params: { query: { strict: true }, header: { "Idempotency-Key": "first import" } },
    body: "ref,name,owner_email,Plan\nX1,Xylo Ltd,xena@xylo.example,Gold\nY1,Yarn Ltd,yves@yarn.example,\n",
    bodySerializer: (body) => body,
    headers: { "Content-Type": "text/csv" },
  });
refused("a key with a space in it", await importing(), 400, "urn:countersign:bad-request");

const importOnce = async () =>
  api.POST("/imports", {
    params: { query: { strict: true }, header: { "Idempotency-Key": '"7c1d6b1e-import"' } },
    body: "ref,name,owner_email,Plan\nX1,Xylo Ltd,xena@xylo.example,Gold\nY1,Yarn Ltd,yves@yarn.example,\n",
    bodySerializer: (body) => body,
    headers: { "Content-Type": "text/csv" },
  });
const first = must("import", await importOnce());
equal("created", first.created, 2);
const again = await importOnce();
equal("the same import", must("import again", again).id, first.id);
equal("replayed", again.response.headers.get("Idempotency-Replayed"), "true");

const names: string[] = [];
for (let cursor: string | undefined; ; ) {
  const page = must("list", await api.GET("/clients", { params: { query: { limit: 1, q: "ltd", cursor } } }));
  names.push(...(page.clients ?? []).map((client) => client.name));
  if (page.next_cursor === null) break;
  cursor = page.next_cursor;
}
equal("listed", names, ["Xylo Ltd", "Yarn Ltd"]);

const path = { id: "ref:X1" };
const read = await api.GET("/clients/{id}", { params: { path } });
must("read", read);
const seen = read.response.headers.get("ETag") ?? "";
const same = await api.GET("/clients/{id}", { params: { path, header: { "If-None-Match": seen } } });
equal("nothing new", same.response.status, 304);
const changed = must(
  "change",
  await api.PATCH("/clients/{id}", {
    params: { path, header: { "If-Match": seen } },
    body: { name: "Xylo & Sons", tags: ["music"], extra: { Plan: null, Region: "East" }, locale: "en-US" },
  }),
);
equal("changed", [changed.name, changed.tags, changed.extra, changed.owner_email], ["Xylo & Sons", ["music"], { Region: "East" }, "xena@xylo.example"]);
const clash = refused(
  "an old ETag",
  await api.PATCH("/clients/{id}", { params: { path, header: { "If-Match": seen } }, body: { locale: null } }),
  412,
  "urn:countersign:client-changed",
);
must(
  "the ETag of the clash",
  await api.PATCH("/clients/{id}", { params: { path, header: { "If-Match": clash.headers.get("ETag") ?? "" } }, body: { locale: null } }),
);
const wrong = await api.PATCH("/clients/{id}", { params: { path }, body: { time_zone: "Mars/North" } });
refused("a time zone that is none", wrong, 422, "urn:countersign:invalid");
equal("where", wrong.error?.errors?.map((e) => e.location), ["body.time_zone"]);

const invited = must("invite", await api.POST("/invitations", { body: { clients: ["ref:X1", "Y1"] } }));
equal("queued", invited.queued, 2);
refused(
  "a link without the scope",
  await api.POST("/clients/{id}/link", { params: { path } }),
  403,
  "urn:countersign:scope-missing",
);
const progress = must("progress", await api.GET("/progress"));
equal("imported", progress.stages["imported"], 5);
refused("nobody", await api.GET("/clients/{id}", { params: { path: { id: "ref:nobody" } } }), 404, "urn:countersign:not-found");
