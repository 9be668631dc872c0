//! The real server of Debian's package: what it was told outlives its container.

use std::time::Duration;

use orlop_tests::world::World;
use orlop_tests::{Outcome, images};

use crate::{Case, same};

pub fn cases() -> Vec<Case> {
    let missing = images::postgres_home().err().map(|error| error.to_string());
    let case = |name, run| Case { name, missing: missing.clone(), run };
    vec![
        case("postgres::survives_rm_and_run", survives_rm_and_run),
        case("postgres::survives_rm_f_and_the_trash", survives_rm_f_and_the_trash),
        case("postgres::starts_a_second_time", starts_a_second_time),
    ]
}

const RUN: &str = "docker run -d --name db -v pgdata:/var/lib/postgresql/data postgres";
const ROWS: &str = "docker exec db psql -Atc 'select count(*), sum(n) from t'";

fn ready(world: &World) -> Outcome {
    world.until("docker exec db pg_isready -q", Duration::from_secs(60)).map(|_| ())
}

fn fill(world: &World) -> Outcome {
    world.load(&["postgres"])?;
    world.sh(RUN)?.ok()?;
    ready(world)?;
    world.sh("docker exec db psql -qc 'create table t as select n from generate_series(1, 10000) n'")?.ok()?;
    same("rows", &world.sh(ROWS)?.ok()?, "10000|50005000")
}

fn survives_rm_and_run(world: &mut World) -> Outcome {
    fill(world)?;
    world.sh("docker stop db && docker rm db")?.ok()?;
    world.sh(RUN)?.ok()?;
    ready(world)?;
    same("rows after rm and run", &world.sh(ROWS)?.ok()?, "10000|50005000")
}

fn survives_rm_f_and_the_trash(world: &mut World) -> Outcome {
    fill(world)?;
    world.sh("docker rm -f db && docker volume rm pgdata && docker volume restore pgdata")?.ok()?;
    world.sh(RUN)?.ok()?;
    ready(world)?;
    same("rows after kill, removal and restore", &world.sh(ROWS)?.ok()?, "10000|50005000")
}

fn starts_a_second_time(world: &mut World) -> Outcome {
    fill(world)?;
    world.sh("docker stop db && docker start db")?.ok()?;
    ready(world)?;
    same("rows after stop and start", &world.sh(ROWS)?.ok()?, "10000|50005000")?;
    let logs = world.sh("docker logs db 2>&1")?.ok()?;
    same("databases made", &logs.matches("database made").count().to_string(), "1")
}
