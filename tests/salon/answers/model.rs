//! A model that a test plays call by call, and what it is told of each.

use salon::llm::{
    Finish, Turn,
    scripted::{Call, Script, ScriptedProvider},
};
use serde_json::Value;

/// One run of one LLM, between two of its calls.
pub struct Model {
    script: Script,
    /// None between a call and what is told of it.
    call: Option<Call>,
    made: usize,
}

impl Model {
    /// Waits until an LLM of `script` is asked.
    pub async fn asked(mut script: Script) -> Self {
        let call = script.next_call().await;
        Self { script, call, made: 0 }
    }

    pub fn played() -> (ScriptedProvider, Script) {
        ScriptedProvider::new("scripted")
    }

    /// The names of the tools it has now.
    pub fn tools(&self) -> Vec<&str> {
        self.call.as_ref().unwrap().request.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    pub fn has(&self, tool: &str) -> bool {
        self.tools().contains(&tool)
    }

    /// Makes a call, and does not wait for what comes of it.
    pub async fn begin(&mut self, tool: &str, arguments: &Value) {
        self.made += 1;
        let mut call = self.call.take().unwrap();
        call.tool(&format!("call_{}", self.made), tool, arguments).await;
        assert!(call.done(Finish::ToolCalls).await, "the answer is not wanted any more");
    }

    /// What the model is told of the call it has begun. Whoever is asked to vote meanwhile opts out.
    pub async fn told(&mut self) -> Value {
        let id = format!("call_{}", self.made);
        loop {
            let mut call = self.script.next_call().await.unwrap();
            if let Some(Turn::ToolResult { call_id, result }) = call.request.turns.last()
                && *call_id == id
            {
                let told = serde_json::from_str(result).unwrap();
                self.call = Some(call);
                return told;
            }
            call.tool("x", "opt_out", &serde_json::json!({})).await;
            call.done(Finish::ToolCalls).await;
        }
    }

    /// Whoever is asked next, while what comes of a call is not known.
    pub async fn other(&mut self) -> Call {
        self.script.next_call().await.unwrap()
    }

    /// Makes a call; what the model is told of it.
    pub async fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.begin(tool, arguments).await;
        self.told().await
    }

    /// Goes on behind a call that has ended the answer.
    pub fn over(self) -> Script {
        self.script
    }

    /// Says this, and goes on.
    pub async fn text(&mut self, text: &str) {
        assert!(self.call.as_mut().unwrap().text(text).await, "the answer is not wanted any more");
    }

    /// Ends the answer with this text.
    pub async fn say(mut self, text: &str) -> Script {
        let mut call = self.call.take().unwrap();
        call.text(text).await;
        call.done(Finish::Stop).await;
        self.script
    }
}

/// Checks that a call failed, and that these words say why.
#[track_caller]
pub fn assert_refused(told: &Value, why: &str) {
    assert_eq!(told["ok"], false, "{told}");
    assert!(told["error"].as_str().unwrap().contains(why), "{told}");
}
