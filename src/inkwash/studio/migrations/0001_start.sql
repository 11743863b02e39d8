create table users (
  id text not null primary key,
  name text not null unique,
  password text,
  admin boolean not null,
  active boolean not null,
  daily integer,
  served double precision not null,
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
  id text not null primary key,
  user_id text not null references users (id),
  sha256 text not null,
  created double precision not null
);
create index uploads_by_content on uploads (sha256);
create table jobs (
  id text not null primary key,
  user_id text not null references users (id),
  door text not null,
  ask json not null,
  n integer not null,
  status text not null,
  error text,
  retry text,
  worker text,
  lease double precision,
  deaths integer not null,
  created double precision not null,
  changed double precision not null,
  started double precision,
  unique (user_id, retry)
);
create index jobs_of_user on jobs (user_id, status, created, id);
create index jobs_by_time on jobs (user_id, created, id);
create index jobs_by_status on jobs (status, created);
create table pictures (
  id text not null primary key,
  job_id text not null references jobs (id),
  place integer not null,
  user_id text not null references users (id),
  sha256 text not null,
  width integer not null,
  height integer not null,
  prompt text not null,
  recipe json not null,
  created double precision not null,
  deleted double precision,
  unique (job_id, place)
);
create index pictures_by_time on pictures (user_id, created, id);
create index pictures_by_content on pictures (sha256);
create table shares (
  token text not null primary key,
  picture_id text not null references pictures (id),
  recipe boolean not null,
  expires double precision
);
create index shares_of_picture on shares (picture_id);
