create table studio (id text not null);
insert into studio values (replace(gen_random_uuid()::text, '-', ''));
create table counter (value bigint not null);
insert into counter values (0);
create table users (
  id text not null primary key,
  name text not null unique,
  key text not null unique,
  password text,
  admin boolean not null,
  active boolean not null,
  daily integer,
  disk bigint,
  a1111_model text,
  served double precision not null,
  turn bigint not null default 0,
  created double precision not null
);
create table secrets (
  hash text not null primary key,
  id text not null unique,
  user_id text not null references users (id),
  kind text not null,
  name text not null,
  created double precision not null,
  expires double precision
);
create index secrets_of_user on secrets (user_id, kind);
create table uploads (
  user_id text not null references users (id),
  sha256 text not null,
  suffix text not null,
  name text not null,
  media text not null,
  bytes bigint not null,
  cleaned boolean not null,
  created double precision not null,
  primary key (user_id, sha256)
);
create index uploads_by_content on uploads (sha256);
create table jobs (
  id text not null primary key,
  user_id text not null references users (id),
  api text not null,
  system text not null,
  verb text not null,
  model text,
  request json not null,
  parts integer not null,
  part integer not null,
  lasting boolean not null,
  status text not null,
  wanted text,
  error text,
  notes json not null,
  plan json,
  cost double precision not null,
  served double precision not null,
  previews integer not null,
  idempotency_key text,
  request_hash text,
  worker text,
  heartbeat double precision,
  deaths integer not null,
  created double precision not null,
  changed double precision not null,
  started double precision,
  deleted double precision,
  serial bigint not null,
  version bigint not null,
  unique (user_id, idempotency_key)
);
create index jobs_by_status on jobs (status, user_id);
create index jobs_by_serial on jobs (user_id, serial);
create index jobs_by_kind on jobs (user_id, system, verb, serial);
create index jobs_by_version on jobs (user_id, version);
create index jobs_by_time on jobs (user_id, created, id);
create table results (
  id text not null primary key,
  job_id text not null references jobs (id),
  part integer not null,
  number integer not null,
  place integer,
  user_id text not null references users (id),
  system text not null,
  verb text not null,
  title text not null,
  data json not null,
  recipe json not null,
  model text,
  bytes bigint not null,
  created double precision not null,
  deleted double precision,
  serial bigint not null,
  unique (job_id, part, number)
);
create index results_by_serial on results (user_id, serial);
create table files (
  result_id text not null references results (id),
  number integer not null,
  sha256 text not null,
  suffix text not null,
  name text not null,
  media text not null,
  bytes bigint not null,
  primary key (result_id, number)
);
create index files_by_content on files (sha256);
create table models (
  id text not null primary key,
  user_id text not null references users (id),
  name text not null,
  system text not null,
  bytes bigint not null,
  job_id text not null references jobs (id),
  created double precision not null,
  deleted double precision
);
create index models_of_user on models (user_id, name);
create table shares (
  token text not null primary key,
  result_id text not null references results (id),
  recipe boolean not null,
  created double precision not null,
  expires double precision
);
create index shares_of_result on shares (result_id);
-- what may be lost by a crash: how often who has asked, and what pictures look like while they are drawn
create unlogged table buckets (
  key text not null primary key,
  tokens double precision not null,
  changed double precision not null
);
create unlogged table previews (
  job_id text not null primary key,
  place integer not null,
  picture text not null
);
create function tell_of_job() returns trigger language plpgsql as $$
begin
  if new.status <> 'running' then
    delete from previews where job_id = new.id;
  end if;
  perform pg_notify('inkwash', json_build_object(
    'event', 'changed', 'job', new.id, 'user', new.user_id, 'status', new.status)::text);
  return null;
end $$;
create trigger jobs_changed after insert or update of version on jobs for each row execute function tell_of_job();
