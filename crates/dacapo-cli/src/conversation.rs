//! From messages and prompts to tokens.

use dacapo_lm::template::{Message, TemplateOptions};
use dacapo_lm::{ChatTemplate, Tokenizer};

use crate::error::Result;

/// The turns of a conversation.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    messages: Vec<Message>,
}

impl Conversation {
    /// A conversation that starts with a system message, if there is one.
    pub fn new(system: Option<&str>) -> Self {
        let mut conversation = Conversation::default();
        if let Some(system) = system {
            conversation.push("system", system);
        }
        conversation
    }

    /// Adds a turn; `role` is one that chat templates know: "system", "user" or "assistant".
    pub fn push(&mut self, role: &str, content: &str) {
        self.messages.push(Message::new(role, content));
    }

    /// Takes the last turn back.
    pub fn pop(&mut self) {
        self.messages.pop();
    }

    /// Tokens of the whole conversation, up to where the model's answer begins.
    ///
    /// # Errors
    /// Those of the template and of the tokenizer.
    pub fn encode(&self, template: &ChatTemplate, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
        let text = template.render(&self.messages, &options)?;
        // The template has written the special tokens that start a text.
        Ok(tokenizer.encode(&text, false)?)
    }
}
