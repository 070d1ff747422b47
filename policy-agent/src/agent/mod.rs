//! The running agent: a control loop around one node, and what it is wired to.

mod answer;
mod backoff;
mod control;
mod explain;
mod find;
mod heap;
mod machine;
mod members;
mod options;
mod problems;
mod run;
mod seams;
mod settle;
mod state_dir;
#[cfg(test)]
mod tests;
mod window;

pub use control::{Control, Ending, Inbox, Settings};
pub use options::{Cli, DEFAULT_SOCKET};
pub use seams::{Datapath, Discovery, Failure};
