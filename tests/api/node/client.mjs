// What the stock openai package gets from a device: one function a behaviour, its findings as JSON on standard output.
// node client.mjs <behaviour>, with OPENAI_BASE_URL and OPENAI_API_KEY in the environment.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0, timeout: 30_000 });
const model = "thox-nano";
const messages = [{ role: "user", content: "What are you?" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_temperature",
      parameters: {
        type: "object",
        properties: { unit: { enum: ["celsius", "fahrenheit"] } },
        required: ["unit"],
        additionalProperties: false,
      },
    },
  },
];

const behaviours = {
  async streams() {
    const params = { model, messages, max_tokens: 24, temperature: 0, seed: 1 };
    const stream = await client.chat.completions.create({ ...params, stream: true, stream_options: { include_usage: true } });
    let text = "", finish = null, usage = null, chunks = 0;
    for await (const chunk of stream) {
      chunks += 1;
      text += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    const whole = await client.chat.completions.create(params);
    return { text, finish, usage, chunks, whole: whole.choices[0].message.content, id: whole._request_id };
  },

  async calls_tools() {
    const runner = client.chat.completions.stream({ model, messages, tools, tool_choice: "required", max_tokens: 200 });
    const completion = await runner.finalChatCompletion();
    const { message, finish_reason: finish } = completion.choices[0];
    const answered = await client.chat.completions.create({
      model,
      messages: [...messages, message, { role: "tool", tool_call_id: message.tool_calls[0].id, content: "42" }],
      tools,
      max_tokens: 8,
    });
    return { calls: message.tool_calls, finish, after: answered.choices[0].finish_reason };
  },

  async gets_json_schema() {
    const schema = {
      type: "object",
      properties: { ready: { type: "boolean" }, colour: { enum: ["red", "green"] } },
      required: ["ready", "colour"],
      additionalProperties: false,
    };
    const completion = await client.chat.completions.create({
      model,
      messages,
      max_tokens: 200,
      response_format: { type: "json_schema", json_schema: { name: "state", strict: true, schema } },
    });
    return { parsed: JSON.parse(completion.choices[0].message.content) };
  },

  async aborts() {
    const stream = await client.chat.completions.create({
      model,
      messages,
      stream: true,
      n: 4,
      max_tokens: 1900,
      ignore_eos: true,
    });
    let chunks = 0;
    for await (const chunk of stream) {
      chunks += 1;
      if (chunks === 3) stream.controller.abort();
    }
    return { chunks };
  },

  async is_refused() {
    try {
      await client.chat.completions.create({ model: "nobody", messages });
    } catch (error) {
      return { kind: error.constructor.name, status: error.status, type: error.type, message: error.message };
    }
  },
};

console.log(JSON.stringify(await behaviours[process.argv[2]]()));
