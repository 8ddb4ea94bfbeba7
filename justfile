# Shorthands; each is one command that can be typed as well.

# what the project is made of, and all there is to run
default:
    @just --list

# everything that must hold before a change lands (real servers, about half an hour)
ci:
    .ci/run

# the tests that need no server and no network
test:
    cargo test

# who imports whom, what stands where
tidy:
    cargo test --test tidy

lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# long files and long functions, to think about
sizes:
    cargo test --test tidy sizes_are_listed -- --nocapture

# Kafka and a registry on this machine (a JDK and Maven); prints their addresses
up:
    tests/stack/stack install
    tests/stack/stack start target/servers

down:
    tests/stack/stack stop target/servers

# plan, apply and run the example on servers of its own, and check the results from outside
end-to-end:
    tests/end_to_end/run.sh
