"""Files as offices, banks, instruments and shops write them, with titles, remarks, sums and codes around the values:
each holds the right value on its right day, and what was left out is said."""

import re

import numpy as np
import pandas as pd
import pytest

from inkwash.errors import UserError
from inkwash.systems.series.data import read_series
from inkwash.systems.tables import read_text
from tests.systems.series.test_files import AMOUNTS, DAYS, HOURS, MONTHS, Kind, counted, german, rows, written
from tests.systems.series.test_files import GERMAN as JANUAR
from tests.systems.series.test_files import KINDS as ORDINARY

JAN_TO_DEC = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
BRAZIL = re.split(" ", "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro")
ITALY = re.split(" ", "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre")
NETHERLANDS = re.split(" ", "januari februari maart april mei juni juli augustus september oktober november december")
YEARS = range(2015, 2021)


def by_year(sign=",", form="{}", more=()):
    """A row a year, 1, 2, 3... along the months."""
    cells = [[form.format(12 * k + m + 1) for m in range(12)] for k in range(len(YEARS))]
    return [sign.join([str(year), *row, *more]) for year, row in zip(YEARS, cells, strict=True)]


def lines(*parts):
    return "\n".join([line for part in parts for line in ([part] if isinstance(part, str) else part)]) + "\n"


def with_code(code, at=(2, 3, 7), count=20):
    """20.5, 21.5..., and a code in some places."""
    return [code if k in at else f"{k + 20}.5" for k in range(count)]


ISO = written("%Y-%m-%d")
PLAIN = rows(ISO, counted(), "day,sales").splitlines()
GERMAN_ROWS = rows(written("%d.%m.%Y"), map(german, AMOUNTS), "Datum;Umsatz", ";").splitlines()

KINDS = {
    # codes of what is missing
    "-999": Kind(
        rows(ISO, with_code("-999")), "sales", "2024-02-03", 29.5, note="-999 in sales taken for missing, 3 times"
    ),
    "-9999.0": Kind(
        rows(ISO, with_code("-9999.0")), "sales", "2024-02-03", 29.5, note="-9999 in sales taken for miss"
    ),
    "-99.9": Kind(rows(ISO, with_code("-99.9")), "sales", "2024-02-03", 29.5, note="3 gaps; -99.9 in sales taken"),
    "999.99 in German": Kind(
        rows(written("%d.%m.%Y"), [c.replace(".", ",") for c in with_code("999.99")], "Datum;sales", ";"),
        "sales",
        "2024-02-03",
        29.5,
        note="999.99 in sales taken for missing, 3 times",
    ),
    "two columns, once in each": Kind(
        lines(
            "date,a,b",
            [f"{d},{x},{k}" for k, (d, x) in enumerate(zip(ISO, with_code("999.9", [4]), strict=True))][:-1],
            f"{ISO[-1]},5.5,999.9",
        ),
        "a",
        "2024-02-03",
        29.5,
        note="999.9 in a, b taken for missing, 2 times",
    ),
    "once": Kind(rows(ISO, with_code("9999", [4])), "sales", "2024-01-29", 9999, note="9999 in sales stands once"),
    "named": Kind(
        rows(ISO, with_code("-1")),
        "sales",
        "2024-02-03",
        29.5,
        note="3 gaps; '-1' taken for missing, 3 times",
        options={"missing": ["-1"]},
    ),
    "a word that is named": Kind(
        rows(ISO, with_code("closed")),
        "sales",
        "2024-02-03",
        29.5,
        note="'closed' taken for missing, 3 times",
        options={"missing": ["closed"]},
    ),
    "kept": Kind(rows(ISO, with_code("-999")), "sales", "2024-01-27", -999, options={"missing": ["none"]}),
    "a price of nines": Kind(rows(ISO, ["999", "899"] * 10), "sales", "2024-01-27", 999),
    "NOAA's summary of the day": Kind(
        lines(
            '"STATION","DATE","LATITUDE","TEMP","TEMP_ATTRIBUTES","SLP","WDSP","MXSPD","GUST","PRCP","SNDP","FRSHTT"',
            [
                f'"10384099999","{d}","52.4675","  {30 + k}.5","24",'
                f'"{9999.9 if k in (3, 4) else 1010.5 + k}","  {k}.4",'
                f'" {9 + k}.9","{999.9 if k % 2 else 30.1}"," {99.99 if k in (5, 6) else 0.02}","999.9","001000"'
                for k, d in enumerate(ISO)
            ],
        ),
        "TEMP",
        "2024-02-03",
        39.5,
        note="999.9 in GUST",
    ),
    # titles above, remarks and sums below
    "comments": Kind(
        lines("# Station: Berlin, Tegel", "# Units: pieces", PLAIN),
        "sales",
        "2024-02-03",
        10,
        note="left out 2 lines above the names",
    ),
    "the line of names as a comment": Kind(
        lines("# day,sales", PLAIN[1:]),
        "sales",
        "2024-02-03",
        10,
    ),
    "a title, padded": Kind(
        lines("Report of sales;", ";", "Quelle: SAP;", "Von:;01.01.2024", GERMAN_ROWS, "Summe;220.000,00"),
        "Umsatz",
        "2024-02-03",
        10234.5,
        note="left out 3 lines above the names; left out 1 row of 'Summe'",
    ),
    "a title with other signs": Kind(
        lines("Report of sales; all shops, 2024", "", PLAIN, "", "Source: the till, 2024"),
        "sales",
        "2024-02-03",
        10,
        note="left out 1 line above the names; left out 1 line below the table",
    ),
    "World Bank": Kind(
        lines(
            '"Data Source","World Development Indicators",',
            "",
            '"Last Updated Date","2024-03-28",',
            "",
            '"Country Name","Country Code","Indicator Name","Indicator Code",'
            + ",".join(f'"{y}"' for y in range(1990, 2010))
            + ",",
            [
                f'"{c}","{c[:3]}","GDP (current US$)","NY.GDP",' + ",".join(f'"{s + k}.5"' for k in range(20)) + ","
                for s, c in enumerate(["Aruba", "Chile", "Zambia"])
            ],
        ),
        "Chile",
        "1995-01-01",
        6.5,
        "YS-JAN",
        note="left out 2 lines above the names",
    ),
    "World Bank's DataBank": Kind(
        lines(
            "Country Name,Country Code," + ",".join(f"{y} [YR{y}]" for y in range(1990, 2010)),
            [
                f"{c},{c[:3]}," + ",".join(".." if k == 2 else f"{s + k}.5" for k in range(20))
                for s, c in enumerate(["Aruba", "Chile", "Zambia"])
            ],
            "",
            "",
            "",
            "Data from database: World Development Indicators",
            "Last Updated: 03/28/2024",
        ),
        "Chile",
        "1995-01-01",
        6.5,
        "YS-JAN",
        note="2 lines below the table",
    ),
    "Destatis": Kind(
        lines(
            "GENESIS-Tabelle: 61111-0002",
            "Verbraucherpreisindex: Deutschland, Monate;;;",
            "Deutschland;;;",
            "Jahr;Monate;Verbraucherpreisindex;Veränderung",
            ";;2020=100;in (%)",
            [f"{d.year};{JANUAR[d.month - 1]};{k + 100},5;+{k},1" for k, d in enumerate(MONTHS)],
            "2025;Januar;...;...",
            "__________",
            "© Statistisches Bundesamt (Destatis), 2024",
            "Stand: 02.04.2024 / 12:30:00",
        ).encode("cp1252"),
        "Verbraucherpreisindex",
        "2024-02-01",
        103.5,
        "MS",
    ),
    "Destatis, the year once": Kind(
        lines(
            "Jahr;Monat;Index",
            [
                f"{d.year if k == 0 or d.month == 1 else ''};{JANUAR[d.month - 1]};{k + 100},5"
                for k, d in enumerate(MONTHS)
            ],
        ),
        "Index",
        "2024-02-01",
        103.5,
        "MS",
    ),
    "Bundesbank": Kind(
        lines(
            '"";BBEX3.D.USD.EUR.BB.AC.000;BBEX3.D.USD.EUR.BB.AC.000_FLAGS',
            '"";Euro-Referenzkurs der EZB;',
            "Einheit;USD;",
            "Dimension;Eins;",
            "Stand vom;02.04.2024 16:00:00;",
            [
                f"{d};{'.' if k == 2 else f'1,{1000 + k}'};{'Kein Wert vorhanden' if k == 2 else ''}"
                for k, d in enumerate(ISO)
            ],
        ),
        "BBEX3.D.USD.EUR.BB.AC.000",
        "2024-02-03",
        1.1009,
        "D",
    ),
    "ECB": Kind(
        lines(
            '"DATE","TIME PERIOD","US dollar/Euro (EXR.D.USD.EUR.SP00.A)"',
            [f'"{d}","{d:%d %b %Y}","1.{1000 + k}"' for k, d in enumerate(DAYS)],
        ),
        "US dollar/Euro (EXR.D.USD.EUR.SP00.A)",
        "2024-02-03",
        1.1009,
    ),
    "ONS": Kind(
        lines(
            '"Title","CPIH ANNUAL RATE 00: ALL ITEMS 2015=100"',
            '"CDID","L55O"',
            '"Source dataset ID","MM23"',
            '"PreUnit",""',
            '"Unit","%"',
            '"Release date","17-04-2024"',
            '"Next release","22 May 2024"',
            '"Important notes",""',
            [f'"{y}","{y - 2000}.5"' for y in range(2016, 2020)],
            [f'"{y} Q{q}","{q}.1"' for y in range(2016, 2020) for q in (1, 2, 3, 4)],
            [
                f'"{y} {m.upper()}","{12 * (y - 2016) + k}.2"'
                for y in range(2016, 2020)
                for k, m in enumerate(JAN_TO_DEC)
            ],
        ),
        "CPIH ANNUAL RATE 00: ALL ITEMS 2015=100",
        "2017-02-01",
        13.2,
        "MS",
        note="left out quarters and years beside months",
    ),
    "FRED": Kind(
        rows(
            written("%Y-%m-%d", MONTHS), ["." if k == 2 else f"{k}.5" for k in range(14)], "observation_date,UNRATE"
        ),
        "UNRATE",
        "2024-02-01",
        3.5,
        "MS",
    ),
    "FRED, text": Kind(
        lines(
            "Title:               Unemployment Rate",
            "Series ID:           UNRATE",
            "Frequency:           Monthly",
            "Date Range:          1948-01-01 to 2024-03-01",
            "",
            "DATE          VALUE",
            [f"{d:%Y-%m-%d}    {k}.5 " for k, d in enumerate(MONTHS)],
        ),
        "VALUE",
        "2024-02-01",
        3.5,
        "MS",
        name="UNRATE.txt",
    ),
    "BLS, a row a month": Kind(
        lines(
            "Series ID,Year,Period,Label,Value",
            [
                f"CUUR0000SA0,{y},M{m:02},{y} {[*JAN_TO_DEC, 'Annual'][m - 1]},{12 * (y - 2015) + m}.125"
                for y in YEARS
                for m in range(1, 14)
            ],
        ),
        "Value",
        "2016-02-01",
        14.125,
        "MS",
        note="left out 6 rows of 'M13'",
    ),
    "BLS, a row a year": Kind(
        lines("Year," + ",".join(JAN_TO_DEC) + ",Annual,HALF1,HALF2", by_year(more=["1", "2", "3"])),
        "value",
        "2016-02-01",
        14,
        "MS",
        note="a row a year and a column a month are one clock, left out Annual, HALF1, HALF2",
    ),
    "NASA": Kind(
        lines(
            "Land-Ocean: Global Means",
            "Year," + ",".join(JAN_TO_DEC) + ",J-D,D-N,DJF,MAM,JJA,SON",
            by_year(form="-.{:02}", more=["***", ".5", ".5", ".5", ".5", ".5"]),
        ),
        "value",
        "2016-02-01",
        -0.14,
        "MS",
    ),
    "German months across": Kind(
        lines("Jahr;" + ";".join(JANUAR), by_year(";", "{},5")),
        "value",
        "2016-02-01",
        14.5,
        "MS",
        note="a row a year and a column a month are one clock",
    ),
    "Chinese months across": Kind(
        lines("年份," + ",".join(f"{m}月" for m in range(1, 13)), by_year()).encode("gbk"),
        "value",
        "2016-02-01",
        14,
        "MS",
    ),
    "numbered months across": Kind(
        lines("year," + ",".join(map(str, range(1, 13))), by_year()),
        "value",
        "2016-02-01",
        14,
        "MS",
    ),
    "quarters across": Kind(
        lines(
            "Year,Q1,Q2,Q3,Q4", [f"{y},{4 * k + 1},{4 * k + 2},{4 * k + 3},{4 * k + 4}" for k, y in enumerate(YEARS)]
        ),
        "value",
        "2016-04-01",
        6,
        "QS-OCT",
    ),
    "months across for each station": Kind(
        lines(
            "station,year," + ",".join(JAN_TO_DEC),
            [f"{s},{row}" for s in "AB" for row in by_year(form="{}" if s == "A" else "{}0")],
        ),
        "B",
        "2016-02-01",
        140,
        "MS",
    ),
    "a row a month, a column a year": Kind(
        lines("Monat;2022;2023", [f"{m};{k};{k + 12}" for k, m in enumerate(JANUAR)], "Summe;66;210"),
        "value",
        "2023-02-01",
        13,
        "MS",
    ),
    "NOAA's buoys": Kind(
        lines(
            "#YY  MM DD hh mm WDIR WSPD GST  WVHT",
            "#yr  mo dy hr mn degT m/s  m/s     m",
            [
                f"{d:%Y %m %d %H} 00 {999 if k in (4, 5) else 180 + k:3d} {99.0 if k in (6, 7) else k / 10:4.1f} "
                f"{k / 8:4.1f} {99.0 if k < 20 else 1.25:5.2f}"
                for k, d in enumerate(HOURS)
            ],
        ),
        "WDIR",
        "2024-01-02 03:00",
        207,
        "h",
        note="999 in WDIR taken for missing, 2 times",
        name="41001.txt",
    ),
    "NOAA's days": Kind(
        lines(
            '"STATION","DATE","LATITUDE","LONGITUDE","ELEVATION","NAME","PRCP","PRCP_ATTRIBUTES","TMAX","TMAX_ATTRIBUTES"',
            [
                f'"USW00094728","{d}","40.77898","-73.96925","42.7","NY CITY CENTRAL PARK, NY US",'
                f'"{k:5d}",",,W,2400","{k * 10 - 50:5d}",",,W"'
                for k, d in enumerate(ISO)
            ],
        ),
        "TMAX",
        "2024-02-03",
        40,
    ),
    "USGS": Kind(
        lines(
            "# ---- WARNING ----",
            '#  USGS 01646500 POTOMAC RIVER, "LITTLE FALLS',
            "# Data, provisional",
            "agency_cd\tsite_no\tdatetime\t69928_00060_00003\t69928_00060_00003_cd",
            "5s\t15s\t20d\t14n\t10s",
            [f"USGS\t01646500\t{d}\t{1000 + k}\tA" for k, d in enumerate(ISO)],
        ),
        "69928_00060_00003",
        "2024-02-03",
        1009,
        note="left out 3 lines above the names; left out 1 line between",
        name="dv.txt",
    ),
    "Campbell's loggers": Kind(
        lines(
            '"TOA5","CR1000","CR1000","12345","CR1000.Std.31","CPU:prog.CR1","54321","Hourly"',
            '"TIMESTAMP","RECORD","BattV_Min","AirTC_Avg"',
            '"TS","RN","Volts","Deg C"',
            '"","","Min","Avg"',
            [f'"{d}",{k},12.5,{"NAN" if k == 2 else k / 4}' for k, d in enumerate(HOURS)],
        ).replace("NAN", '"NAN"'),
        "AirTC_Avg",
        "2024-01-02 03:00",
        6.75,
        "h",
    ),
    "Open-Meteo": Kind(
        lines(
            "latitude,longitude,elevation,utc_offset_seconds,timezone,timezone_abbreviation",
            "52.52,13.42,38.0,3600,Europe/Berlin,CET",
            "",
            "time,temperature_2m (°C)",
            [f"{d:%Y-%m-%dT%H:%M},{k}.5" for k, d in enumerate(HOURS)],
        ),
        "temperature_2m (°C)",
        "2024-01-02 03:00",
        27.5,
        "h",
    ),
    "DWD": Kind(
        lines(
            "STATIONS_ID;MESS_DATUM;QN_3;  FX;  FM;eor",
            [
                f"        433;{d:%Y%m%d};   10;{(-999 if k in (2, 3) else k + 1):8.1f};{k:8.1f};eor"
                for k, d in enumerate(DAYS)
            ],
        ),
        "FX",
        "2024-02-03",
        10,
        note="-999 in FX taken for missing, 2 times",
    ),
    "KNMI": Kind(
        lines(
            "# BRON: KNMI",
            "# STN         LON(east)   LAT(north)",
            "# 260         5.180       52.100",
            "# FG        : Etmaalgemiddelde windsnelheid (in 0.1 m/s)",
            "# STN,YYYYMMDD,   FG,   TG",
            [f"  260,{d:%Y%m%d},{k:5d},{k * 10:5d}" for k, d in enumerate(DAYS)],
        ),
        "TG",
        "2024-02-03",
        90,
        options={"target": ["FG", "TG"]},
        name="etmgeg.txt",
    ),
    "NASA POWER": Kind(
        lines(
            "-BEGIN HEADER-",
            "NASA/POWER Source Native Resolution Daily Data ",
            "Dates (month/day/year): 01/25/2024 through 02/13/2024 in LST",
            "Location: latitude  52.5   longitude 13.4 ",
            "The value for missing source data that cannot be computed or is outside of the sources: -999 ",
            "Parameter(s): ",
            "T2M     MERRA-2 Temperature at 2 Meters (C) ",
            "-END HEADER-",
            "YEAR,MO,DY,T2M",
            [f"{d.year},{d.month},{d.day},{-999 if k > 17 else k - 5}" for k, d in enumerate(DAYS)],
        ),
        "T2M",
        "2024-02-03",
        4,
    ),
    "WHO": Kind(
        lines(
            "Date_reported,Country_code,Country,WHO_region,New_cases,Cumulative_cases",
            [
                f"{d},{c},{n},EURO,{'' if k == 3 else k + 1},{k * 10}"
                for c, n in (("AT", "Austria"), ("BE", "Belgium"))
                for k, d in enumerate(ISO)
            ],
        ),
        "Belgium",
        "2024-02-03",
        10,
        options={"target": ["New_cases"], "item": ["Country"]},
    ),
    "Eurostat, SDMX": Kind(
        lines(
            "DATAFLOW,LAST UPDATE,freq,unit,geo,TIME_PERIOD,OBS_VALUE,OBS_FLAG",
            [
                f"ESTAT:UNE_RT_M(1.0),02/04/24 23:00:00,M,PC_ACT,{g},{d:%Y-%m},{k + s}.5,{'p' if k == 13 else ''}"
                for s, g in enumerate(["AT", "BE"])
                for k, d in enumerate(MONTHS)
            ],
        ),
        "BE",
        "2024-02-01",
        4.5,
        "MS",
    ),
    "Eurostat, a sheet": Kind(
        lines(
            "Data extracted on 02/04/2024 23:00:00 from [ESTAT],,,,",
            "Dataset:,Unemployment by sex and age,,,",
            "Last updated:,28/03/2024,,,",
            ",,,,",
            "TIME,2023-10,2023-11,2023-12,2024-01",
            "GEO (Labels),,,,",
            "Austria,5.1,5.2,:,5.4",
            "Belgium,6.1,6.2,6.3,6.4",
            ",,,,",
            "Special value,,,,",
            ":,not available,,,",
        ),
        "Belgium",
        "2024-01-01",
        6.4,
        "MS",
    ),
    "OECD": Kind(
        lines(
            '"LOCATION","INDICATOR","SUBJECT","MEASURE","FREQUENCY","TIME","Value","Flag Codes"',
            [
                f'"{c}","GDP","TOT","MLN_USD","A","{y}",{y - 2000}.{s}5,'
                for s, c in enumerate(["AUT", "BEL"])
                for y in YEARS
            ],
        ),
        "BEL",
        "2016-01-01",
        16.15,
        "YS-JAN",
    ),
    "IMF": Kind(
        lines(
            "Country\tUnits\t" + "\t".join(map(str, range(2010, 2020))) + "\tEstimates Start After",
            [
                f"{c}\tPercent\t" + "\t".join("n/a" if k == 1 else f"{s}.{k}" for k in range(10)) + "\t2018"
                for s, c in enumerate(["Chad", "Chile"])
            ],
            "",
            "International Monetary Fund, World Economic Outlook Database, April 2024",
        ),
        "Chile",
        "2015-01-01",
        1.5,
        "YS-JAN",
        name="weo.xls.txt",
    ),
    "a row a month, a column a year, with sums": Kind(
        lines(
            "Month,2022,2023,Total", [f"{m},{k},{k + 12},{2 * k}" for k, m in enumerate(JAN_TO_DEC)], "Total,66,210,9"
        ),
        "value",
        "2023-02-01",
        13,
        "MS",
        note="left out Total",
    ),
    "IBGE": Kind(
        lines(
            "Tabela 1737;",
            "Mês;IPCA",
            [f"{m} {y};{k},5" for y in (2022, 2023) for k, m in enumerate(BRAZIL)],
            "Fonte: IBGE",
        ),
        "IPCA",
        "2023-02-01",
        1.5,
        "MS",
    ),
    "ISTAT": Kind(
        lines("Mese;Indice", [f"{m} {y};{k},5" for y in (2022, 2023) for k, m in enumerate(ITALY)]),
        "Indice",
        "2023-02-01",
        1.5,
        "MS",
    ),
    "CBS": Kind(
        lines(
            '"Perioden";"CPI"',
            [f'"{y} {m}";"{k},5"' for y in (2022, 2023) for k, m in enumerate(NETHERLANDS)],
            '"Bron: CBS"',
        ),
        "CPI",
        "2023-02-01",
        1.5,
        "MS",
        note="1 line below",
    ),
    "INSEE": Kind(
        lines(
            '"Libellé";"IPC";"Codes"',
            '"idBank";"001759970";""',
            '"Dernière mise à jour";"15/03/2024 12:00";""',
            '"Période";"";""',
            [f'"{d:%Y-%m}";"{100 + k}.5";"A"' for k, d in enumerate(MONTHS[::-1])],
        ),
        "IPC",
        "2024-02-01",
        110.5,
        "MS",
        note="left out 3 lines between names and values",
    ),
    "Australia's bureau": Kind(
        lines(
            ",Index ;  Sydney ;,Index ;  Melbourne ;",
            "Unit,Index Numbers,Index Numbers",
            "Series Start,Sep-1948,Sep-1948",
            "Series ID,A2325806K,A2325807L",
            [f"{d:%b-%Y},{k}.1,{k}.2" for k, d in enumerate(pd.date_range("2010-03-01", periods=16, freq="QS-MAR"))],
        ),
        "A2325807L",
        "2010-12-01",
        3.2,
        "QS-DEC",
    ),
    "the Fed's rates": Kind(
        lines(
            '"Series Description","10-year","30-year"',
            '"Unit:","Percent:_Per_Year","Percent:_Per_Year"',
            '"Multiplier:","1","1"',
            '"Time Period","RIFLGFCY10_N.B","RIFLGFCY30_N.B"',
            [f"{d},{'ND' if k == 3 else f'4.{k + 10}'},4.{k + 50}" for k, d in enumerate(ISO)],
        ),
        "RIFLGFCY10_N.B",
        "2024-02-03",
        4.19,
        note="1 gap (marked 'ND' 1); left out 3 lines above the names",
    ),
    "a house's sensors": Kind(
        rows(
            [f"sensor.t,{d:%Y-%m-%dT%H:%M:%S}.000Z" for d in HOURS],
            ["unavailable" if k == 3 else f"{k}.5" for k in range(48)],
            "entity_id,last_changed,state",
        ),
        "state",
        "2024-01-02 03:00Z",
        27.5,
        "h",
        note="1 gap (marked 'unavailable' 1)",
    ),
    "Amazon": Kind(
        lines(
            '"Includes Amazon Marketplace, all"',
            '"All amounts in EUR"',
            '"date/time","type","total"',
            [
                f'"{d.day}. {JANUAR[d.month - 1]} {d.year} 00:00:00 UTC","Order","{german(k + 0.5)}"'
                for k, d in enumerate(DAYS)
            ],
        ),
        "total",
        "2024-02-03 00:00Z",
        9.5,
        note="left out 2 lines above the names",
    ),
    "inverters": Kind(
        lines(
            "Datum und Uhrzeit;Energie | Symo",
            "[dd.MM.yyyy HH:mm];[Wh]",
            [f"{d:%d.%m.%Y %H:%M};{k},5" for k, d in enumerate(HOURS)],
        ),
        "Energie | Symo",
        "2024-01-02 03:00",
        27.5,
        "h",
        note="left out 1 line between names and values",
    ),
    "a column that is nothing but a code": Kind(
        lines("date,a,b", [f"{d},{k},-999" for k, d in enumerate(ISO)]),
        "a",
        "2024-02-03",
        9,
        note="-999 in b taken for missing, 20 times (--missing none keeps it); left out b (no values)",
    ),
    # banks and books
    "DATEV's sides": Kind(
        rows(written("%d.%m.%Y"), [f"{german(v)} {'SH'[k % 2]}" for k, v in enumerate(AMOUNTS)], "Datum;Betrag", ";"),
        "Betrag",
        "2024-02-03",
        10234.5,
        note="Betrag: H, S as signs",
    ),
    "debits": Kind(
        rows(ISO, [f'"{v:,.2f} {("CR", "DR")[k % 2]}"' for k, v in enumerate(AMOUNTS)], "Date,Amount"),
        "Amount",
        "2024-02-03",
        -10234.5,
    ),
    "a column of sides": Kind(
        rows(
            written("%d.%m.%Y"),
            [f"{german(v)};EUR;{'SH'[k % 2]}" for k, v in enumerate(AMOUNTS)],
            "Buchungstag;Betrag;Währung;Soll/Haben",
            ";",
        ),
        "Betrag",
        "2024-01-27",
        -3234.5,
        note="Betrag with the sign of Soll/Haben, S as -",
    ),
    "SAP's signs": Kind(
        lines(
            "29.11.2026                Dynamische Listenausgabe                      1",
            "",
            "-" * 40,
            "|Datum     |         Betrag|S/H|",
            "-" * 40,
            [
                f"|{d}|{german(v):>14}{'-' if k % 2 else ' '}|{'SH'[k % 2]}  |"
                for k, (d, v) in enumerate(zip(written("%d.%m.%Y"), AMOUNTS, strict=True))
            ],
            "-" * 40,
            "|*         |      12.345,00 |   |",
            "-" * 40,
        ),
        "Betrag",
        "2024-02-03",
        -10234.5,
        note="left out 1 row of '*'",
        name="sap.txt",
    ),
    "Sparkasse": Kind(
        rows(
            written("%d.%m.%y"),
            [
                f'"{d:%d.%m.%y}";"LASTSCHRIFT";"{german(-v)}";"EUR";"Umsatz gebucht"'
                for d, v in zip(DAYS, AMOUNTS, strict=True)
            ],
            '"Buchungstag";"Valutadatum";"Buchungstext";"Betrag";"Waehrung";"Info"',
            ";",
        ),
        "Betrag",
        "2024-02-03",
        -10234.5,
    ),
    "DKB": Kind(
        lines(
            '"Girokonto";"DE12345678901234567890"',
            '""',
            '"Kontostand vom 13.02.2024:";"1.234,56 €"',
            '""',
            '"Buchungsdatum";"Wertstellung";"Verwendungszweck";"Betrag (€)"',
            [
                f'"{d:%d.%m.%y}";"{d:%d.%m.%y}";"Kauf; Markt";"{german(-v)}"'
                for d, v in zip(DAYS, AMOUNTS, strict=True)
            ],
        ),
        "Betrag (€)",
        "2024-02-03",
        -10234.5,
    ),
    "Stripe": Kind(
        rows(written("%Y-%m-%d 00:00"), [f'{k},"{k},500.25"' for k in range(1, 21)], "Created (UTC),Count,Gross"),
        "Gross",
        "2024-02-03",
        10500.25,
    ),
    "Shopify": Kind(
        rows(ISO, [f"{k},$1{k:02}.50,-$2.00" for k in range(20)], "Day,Orders,Gross sales,Discounts"),
        "Gross sales",
        "2024-02-03",
        109.5,
    ),
    "Google Trends": Kind(
        lines(
            "Category: All categories",
            "",
            "Week,diffusion: (Worldwide)",
            [
                f"{d:%Y-%m-%d},{'<1' if k == 2 else k + 5}"
                for k, d in enumerate(pd.date_range("2024-01-07", periods=20, freq="W"))
            ],
        ),
        "diffusion: (Worldwide)",
        "2024-03-10",
        14,
        "W-SUN",
        options={"missing": ["<1"]},
    ),
    "Google Analytics": Kind(
        lines(
            "# ----------------------------------------",
            "# All Web Site Data",
            "# 20240125-20240213",
            "# ----------------------------------------",
            "",
            "Day Index,Users",
            [f'{d.month}/{d.day}/{d:%y},"{k + 1},{k:03}"' for k, d in enumerate(DAYS)],
            ',"12,345"',
        ),
        "Users",
        "2024-02-03",
        10009,
        options={"decimal": "."},
        note="left out 1 row without Day Index at the end",
    ),
    "Fitbit": Kind(
        lines(
            "Activities",
            "Date,Calories Burned,Steps,Distance",
            [f'"{d}","2,{100 + k}","1{k},500","{k}.5"' for k, d in enumerate(ISO)],
            "",
        ),
        "Steps",
        "2024-02-03",
        19500,
    ),
    "Apple's weight": Kind(
        rows([f"{d:%Y-%m-%d} 00:00:00 +0100" for d in DAYS], [f"{k}.5" for k in range(20)], "startDate,value"),
        "value",
        "2024-02-03 00:00+01:00",
        9.5,
    ),
    "Yahoo": Kind(
        rows(ISO, [f"{k}.5,{k + 1}.5" for k in range(20)], "Date,Open,Adj Close"),
        "Open",
        "2024-02-03",
        9.5,
    ),
    "Investing": Kind(
        rows(
            [f'"{d:%m/%d/%Y}"' for d in DAYS[::-1]],
            [f'"1,0{k:02}.50","1.2{k:02}B","-0.{k:02}%"' for k in range(20)],
            '"Date","Price","Vol.","Change %"',
        ),
        "Price",
        "2024-02-03",
        1010.5,
        options={"target": ["Price"]},
    ),
    "ENTSO-E": Kind(
        rows(
            [f'"{d:%d.%m.%Y %H:%M} - {d + pd.Timedelta(hours=1):%d.%m.%Y %H:%M}"' for d in HOURS],
            [f'"{k}","N/A"' for k in range(48)],
            '"MTU (CET/CEST)","Load","Forecast"',
        ),
        "Load",
        "2024-01-02 03:00",
        27,
        "h",
    ),
    "SMARD": Kind(
        rows(
            [f"{d:%d.%m.%Y %H:%M};{d + pd.Timedelta(hours=1):%d.%m.%Y %H:%M}" for d in HOURS],
            [f"{german(1000.25 + k)}" for k in range(48)],
            "Datum von;Datum bis;Netzlast [MWh]",
            ";",
        ),
        "Netzlast [MWh]",
        "2024-01-02 03:00",
        1027.25,
        "h",
    ),
    "R, write.csv2": Kind(
        rows([f'"{k}";{d}' for k, d in enumerate(ISO, 1)], [f"{k},5" for k in range(20)], '"";"datum";"wert"', ";"),
        "wert",
        "2024-02-03",
        9.5,
    ),
    "R, write.table": Kind(
        lines('"date" "sales"', [f'"{k}" "{d}" {k}.5' for k, d in enumerate(ISO, 1)]),
        "sales",
        "2024-02-03",
        10.5,
        name="t.txt",
    ),
    "numpy": Kind(
        lines("# year month value", [f"{d.year} {d.month} {k}.5" for k, d in enumerate(MONTHS)]),
        "value",
        "2024-02-01",
        3.5,
        "MS",
        name="t.txt",
    ),
    "Chinese Excel": Kind(
        lines(
            "2024年销售报表,,",
            "单位：万元,,",
            "日期,销售额,门店数",
            [f'{d.year}/{d.month}/{d.day},"1,{100 + k}.5",{k}' for k, d in enumerate(DAYS)],
            '合计,"22,000.0",190',
            "数据来源：国家统计局,,",
        ).encode("gbk"),
        "销售额",
        "2024-02-03",
        1109.5,
    ),
    # times
    "24:00": Kind(
        rows(
            [
                f"{d - pd.Timedelta(days=1):%d.%m.%Y} 24:00" if d.hour == 0 else f"{d:%d.%m.%Y %H:%M}"
                for d in HOURS[1:]
            ],
            counted(count=47),
        ),
        "sales",
        "2024-01-02 00:00",
        24,
        "h",
    ),
    "hours from 1 to 24": Kind(
        rows(
            [f"{d.year},{d.month},{d.day},{h}" for d in DAYS[:2] for h in range(1, 25)],
            counted(count=48),
            "year,month,day,hour,sales",
        ),
        "sales",
        "2024-01-26 00:00",
        24,
        "h",
    ),
    "CET": Kind(
        rows(
            [
                f"{d:%Y-%m-%d %H:%M} {d.tzname()}"
                for d in pd.date_range("2024-03-29", periods=96, freq="h", tz="Europe/Berlin")
            ],
            counted(count=96),
        ),
        "sales",
        "2024-03-31 03:00+02:00",
        51,
        "h",
        note="Europe/Berlin",
    ),
    "EST": Kind(
        rows([f"{d:%Y-%m-%d %H:%M} EST" for d in HOURS], counted(count=48)),
        "sales",
        "2024-01-02 03:00-05:00",
        28,
        "h",
    ),
    "Java's zones": Kind(
        rows([f"{d:%Y-%m-%dT%H:%M}+01:00[Europe/Berlin]" for d in HOURS], counted(count=48)),
        "sales",
        "2024-01-02 03:00+01:00",
        28,
        "h",
    ),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_cell_is_on_its_day(tmp_path, kind):
    file = tmp_path / kind.name
    file.write_bytes(kind.content if isinstance(kind.content, bytes) else kind.content.encode())
    series = read_series(file, **(kind.options or {}))
    assert series.freq == kind.freq
    stamp = pd.Timestamp(kind.time)
    assert (stamp.tz is None) == (series.values.index.tz is None)
    assert series.values.loc[stamp, kind.series] == kind.value
    assert kind.note in series.note


@pytest.mark.parametrize("name", [name for name, kind in ORDINARY.items() if kind.content[:2] != b"\x1f\x8b"])
def test_what_stands_around_a_table_changes_nothing(tmp_path, name):
    """Each file that is read without a title is read alike below one, and above a remark."""
    kind = ORDINARY[name]
    file = tmp_path / kind.name
    file.write_bytes(kind.content if isinstance(kind.content, bytes) else kind.content.encode())
    bare, text = read_series(file, **(kind.options or {})), read_text(file).text.lstrip("\n")
    for above, below in (
        ("Report of sales, all shops; 2024\n\n", "\nSource: the office, 2024\n* provisional\n"),
        ("# from: us\n", ""),
    ):
        file.write_text(above + text + below)
        framed = read_series(file, **(kind.options or {}))
        pd.testing.assert_frame_equal(framed.values, bare.values)
        assert "above the names" in framed.note


REFUSED = {
    "words above that are no names": (
        "#            decimal       monthly    de-season\n#             date         average     alized\n"
        + "".join(f"{d.year} {d.month:3d}   {d.year + d.month / 12:.4f}   400.71   314.62\n" for d in MONTHS),
        {},
        "is no time stamp",
    ),
    "months of no year": (
        lines("shop," + ",".join(JAN_TO_DEC), "a," + ",".join(counted(count=12)), "b," + ",".join(counted(count=12))),
        {},
        "Jan to Dec are of a year that is not named",
    ),
    "a year from October": (
        lines("year," + ",".join(JAN_TO_DEC[9:] + JAN_TO_DEC[:9]), by_year()),
        {},
        "its years begin with Oct",
    ),
    "a zone of several": (
        rows([f"{d:%Y-%m-%d %H:%M} CST" for d in HOURS], counted(count=48)),
        {},
        "CST is the name of several zones",
    ),
    "a zone of none": (
        rows([f"{d:%Y-%m-%d %H:%M} XYZ" for d in HOURS], counted(count=48)),
        {},
        "row 1: '2024-01-01 00:00 XYZ' is no time stamp",
    ),
    "seconds": (rows(ISO, [f"{k} S" for k in range(20)]), {}, "row 1: '0 S' is no number"),
    "a sign and a side": (rows(ISO, ["1 DR", *["-5 CR"] * 19]), {}, "row 2: '-5 CR' is no number"),
    "a sheet of no workbook": (lines(PLAIN), {"sheet": "a"}, "sheet means nothing with"),
    "a row without its time": (lines(PLAIN[:5], ",7", PLAIN[5:]), {}, "row 5: 'nan' is no time stamp"),
}


@pytest.mark.parametrize(("content", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_open_is_refused_in_one_line(tmp_path, content, options, message):
    (tmp_path / "data.csv").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        read_series(tmp_path / "data.csv", **options)
    assert "\n" not in str(error.value)


UNTOUCHED = {
    "a region that is called so": "region,date,sales\n"
    + "".join(f"{r},{d},{k}\n" for r in ("North", "Total") for k, d in enumerate(ISO)),
    "a mean for each day": "date,Mean,Total\n" + "".join(f"{d},{k},{2 * k}\n" for k, d in enumerate(ISO)),
    "percentiles": "time,mean,0.1,0.9\n" + "".join(f"{d},{k},{k - 1},{k + 1}\n" for k, d in enumerate(ISO)),
    "stations": "date,10384,10385\n" + "".join(f"{d},{k},{k + 1}\n" for k, d in enumerate(ISO)),
    "sizes": "size,date,sales\n" + "".join(f"{r},{d},{k}\n" for r in ("S", "M", "H") for k, d in enumerate(ISO)),
    "marks of nothing": "side,date,sales\n"
    + "".join(f"{r},{d},{k}\n" for r in ("S", "H") for k, d in enumerate(ISO)),
    "a price index": "date,Index\n" + "".join(f"{d},{3 * k + 100}.5\n" for k, d in enumerate(ISO)),
    "dust": "date,PM2.5,PM10\n" + "".join(f"{d},{k + 100}.5,7\n" for k, d in enumerate(ISO)),
    "a month of the year": "date,Jan\n" + "".join(f"{d},{k + 100}.5\n" for k, d in enumerate(ISO)),
}


@pytest.mark.parametrize("content", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_is_no_sum_and_no_code_stays(tmp_path, content):
    """Against pandas' own reading."""
    (tmp_path / "data.csv").write_text(content)
    plain = pd.read_csv(
        tmp_path / "data.csv", index_col="time" if content.startswith("time") else "date", parse_dates=True
    )
    id = next((name for name in plain if plain[name].dtype == object), None)
    expected = plain if id is None else plain.pivot(columns=id, values="sales")
    found = read_series(tmp_path / "data.csv").values
    np.testing.assert_array_equal(found[[*expected]].to_numpy(), expected.to_numpy())
    assert len(found.columns) == len(expected.columns)


def test_months_beside_other_numbers_are_series_of_years(tmp_path):
    text = lines("year,stations," + ",".join(JAN_TO_DEC), [f"{row[:5]}7,{row[5:]}" for row in by_year()])
    (tmp_path / "data.csv").write_text(text)
    series = read_series(tmp_path / "data.csv")
    assert (series.names, series.freq) == (["stations", *JAN_TO_DEC], "YS-JAN")
    assert series.values.loc["2016-01-01", "Feb"] == 14
    by_name = read_series(tmp_path / "data.csv", target=["Feb"])
    assert by_name.values["Feb"].tolist() == [2, 14, 26, 38, 50, 62]


def test_sheets(tmp_path):
    file = tmp_path / "data.xlsx"
    table = pd.DataFrame({"date": DAYS, "sales": range(20)})
    with pd.ExcelWriter(file) as book:
        pd.DataFrame([["Report of sales"], ["by the office"], ["see below"]]).to_excel(
            book, sheet_name="Notes", index=False, header=False
        )
        table.to_excel(book, sheet_name="Data", index=False, startrow=3)
        book.sheets["Data"]["A1"] = "Sales, all shops"
        book.sheets["Data"]["A26"] = "Source: the till"
    series = read_series(file)
    assert series.values.loc["2024-02-03", "sales"] == 9
    assert "sheet Data; left out 1 line above the names; left out 1 line below the table" in series.note
    with pd.ExcelWriter(file) as book:
        table.to_excel(book, sheet_name="Nord", index=False)
        table.assign(sales=range(20, 40)).to_excel(book, sheet_name="Süd", index=False)
    with pytest.raises(UserError, match="has the sheets Nord, Süd: say by --sheet which"):
        read_series(file)
    assert read_series(file, sheet="Süd").values.loc["2024-02-03", "sales"] == 29
    with pytest.raises(UserError, match=r"unknown sheet of .*data\.xlsx 'Nort': did you mean Nord"):
        read_series(file, sheet="Nort")
