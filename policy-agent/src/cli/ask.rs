//! Asking the agent: the options and the steps that all verbs which do so share.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::output::{Format, print};
use crate::agent::DEFAULT_SOCKET;
use crate::api::Client;
use crate::api::types::Request;

/// Whom to ask, and how to write the answer.
#[derive(Args, Debug)]
pub struct AskOptions {
    /// The agent's socket.
    #[arg(long, value_name = "PATH", env = "CROSSWALL_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// How to write the answer.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl AskOptions {
    /// Asks, and prints the answer: for people as `table` has it.
    pub fn ask<T: Serialize + DeserializeOwned>(
        &self,
        request: &Request,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        let answer: T = runtime.block_on(Client::new(&self.socket).ask(request))?;
        print(&answer, self.output, table)
    }
}
