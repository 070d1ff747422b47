//! The agent is killed again and again at random moments while policies change and traffic goes on: nothing forbidden
//! passes, nothing allowed is cut or lost, and each start ends where the manifests are.
//!
//! A short soak is a test among others; `cargo xtask soak` asks for a long one by variables of the environment.

#[path = "../kernel_storm/choices.rs"]
mod choices;
#[path = "../../benches/budgets/machine.rs"]
mod machine;
mod options;
mod report;
mod run;
mod tables;
mod traffic;
mod world;

use options::Options;

#[test]
fn nothing_forbidden_passes_and_nothing_allowed_is_cut_while_the_agent_is_killed_at_random() {
    policy_lab::remove_labs_on_signals().expect("signals can be caught");
    let options = Options::from_environment();
    let report = run::soak(&options);
    eprintln!("{report}");
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report).expect("JSON");
        std::fs::write(path, json + "\n").unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
    let violations = report.violations();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}
