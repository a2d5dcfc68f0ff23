// Drives the gateway with @grpc/grpc-js: node drive_grpc_js.cjs ADDRESS KEY FUNCTION; prints what came as JSON.
const grpc = require("@grpc/grpc-js");

const [address, key, id] = process.argv.slice(2);
const same = (x) => x;
const method = (path, requestStream, responseStream) => ({
  path, requestStream, responseStream,
  requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
});
const Echo = grpc.makeGenericClientConstructor({
  unary: method("/test.Echo/Unary", false, false),
  expand: method("/test.Echo/Expand", false, true),
  collect: method("/test.Echo/Collect", true, false),
  talk: method("/test.Echo/Talk", true, true),
  wait: method("/test.Echo/Wait", false, false),
  fail: method("/test.Echo/Fail", false, false),
}, "Echo");
const client = new Echo(address, grpc.credentials.createInsecure());
const metadata = (authorization = `Bearer ${key}`) => {
  const found = new grpc.Metadata();
  found.set("authorization", authorization);
  found.set("function-id", id);
  return found;
};
const call = (name, message, options = {}, meta = metadata()) => new Promise((resolve) => {
  let headers = {};
  const started = client[name](Buffer.from(message), meta, options,
    (error, answer) => resolve({ code: error ? error.code : 0, details: error ? error.details : "", headers,
      answer: answer ? answer.toString() : "" }));
  started.on("metadata", (found) => { headers = found.getMap(); });
});
const read = (stream) => new Promise((resolve, reject) => {
  const messages = [];
  stream.on("data", (message) => messages.push(message.toString()));
  stream.on("end", () => resolve(messages));
  stream.on("error", reject);
});

async function main() {
  const found = {};
  const unary = await call("unary", "hello");
  found.unary = [unary.code, unary.answer, unary.headers["x-initial"], Boolean(unary.headers["nvcf-reqid"])];
  const many = await Promise.all([...Array(50).keys()].map((n) => call("unary", String(n))));
  found.many = many.every((answer, n) => answer.answer === String(n));
  const large = "x".repeat(3_000_000);
  found.large = (await call("unary", large)).answer === large;
  found.expand = (await read(client.expand(Buffer.from("100"), metadata()))).length;
  found.collect = await new Promise((resolve) => {
    const stream = client.collect(metadata(), (error, answer) => resolve(error ? error.details : answer.toString()));
    for (const word of ["a", "b", "c"]) stream.write(Buffer.from(word));
    stream.end();
  });
  const talk = client.talk(metadata());
  const answers = read(talk);
  for (const word of ["one", "two"]) talk.write(Buffer.from(word));
  talk.end();
  found.talk = await answers;
  const failed = await call("fail", "");
  found.fail = [failed.code, failed.details];
  const late = await call("wait", "", { deadline: Date.now() + 200 });
  found.deadline = late.code;
  const denied = await call("unary", "", {}, metadata("Bearer nobody"));
  found.denied = denied.code;
  client.close();
  console.log(JSON.stringify(found));
}
main();
