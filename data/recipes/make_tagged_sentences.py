"""Writes tagged_sentences.jsonl: short sentences with universal part-of-speech tags, right by construction.

Each line of the grammar is a sentence; in braces are words to choose from, behind the slash their tag.
Many words occur with several tags ("a walk", "they walk"), so that the word alone does not give it away.
Run it as `python data/recipes/make_tagged_sentences.py`.
"""

# ruff: noqa: E501
import json
import random
import re
from pathlib import Path

GRAMMAR = """
The/DET {old,young,tired,friendly}/ADJ {farmer,baker,teacher,nurse}/NOUN {waters,cuts,sells}/VERB the/DET {roses,flowers,plants}/NOUN ./PUNCT
{She,He}/PRON {drinks,buys,orders}/VERB a/DET {cup,glass,bottle}/NOUN of/ADP {water,milk,tea,juice}/NOUN {every,each}/DET {morning,evening,day}/NOUN ./PUNCT
{We,They}/PRON {water,watered}/VERB the/DET {garden,trees,beans}/NOUN {in,before}/ADP the/DET {evening,morning}/NOUN ./PUNCT
{They,We,You}/PRON {walk,run,swim}/VERB {slowly,quickly,often}/ADV {along,near}/ADP the/DET {river,beach,shore}/NOUN ./PUNCT
A/DET {short,long,quiet}/ADJ {walk,run,swim,rest}/NOUN {helps,pleases,wakes}/VERB {us,me,them}/PRON ./PUNCT
{Anna,Peter,Maria,Tom}/PROPN {opened,closed,painted}/VERB the/DET {door,window,box}/NOUN and/CCONJ {waited,smiled,listened}/VERB ./PUNCT
The/DET {lid,top}/NOUN of/ADP the/DET {can,tin,jar}/NOUN {is,was}/AUX {open,loose,red}/ADJ ./PUNCT
{You,We,I}/PRON {can,may,must}/AUX {open/VERB the/DET can/NOUN,light/VERB the/DET stove/NOUN,light/VERB the/DET lamp/NOUN,rest/VERB in/ADP the/DET light/NOUN} ./PUNCT
The/DET {light,lamp}/NOUN in/ADP the/DET {hall,kitchen,garden}/NOUN {is,was}/AUX {very,too,rather}/ADV {bright,weak,old}/ADJ ./PUNCT
A/DET {light,warm,soft}/ADJ {wind,breeze,air}/NOUN {came,blew}/VERB {from,over}/ADP the/DET {sea,hills,fields}/NOUN ./PUNCT
{Two,Three,Four,Ten}/NUM {children,birds,boats,dogs}/NOUN {crossed,passed,reached}/VERB the/DET {bridge,lake,harbour}/NOUN ./PUNCT
There/PRON {are,were}/AUX {two,five,seven}/NUM {books,letters,apples}/NOUN {on,under,beside}/ADP the/DET {table,chair,bed}/NOUN ./PUNCT
{I,We}/PRON {like,love}/VERB {green,fresh,hot}/ADJ {tea,bread,soup}/NOUN and/CCONJ {sweet,ripe,red}/ADJ {apples,plums,cherries}/NOUN ./PUNCT
{He,She}/PRON {sings,runs,swims}/VERB like/ADP a/DET {bird,fish,child}/NOUN ./PUNCT
{He,She}/PRON {did,does}/AUX not/PART {like,want,need}/VERB the/DET {noise,soup,rain}/NOUN ./PUNCT
{I,They}/PRON {want,hope,plan}/VERB to/PART {visit,see,paint}/VERB the/DET {old,new,small}/ADJ {castle,harbour,market}/NOUN ./PUNCT
{We,They}/PRON {drove,walked,went}/VERB to/ADP the/DET {station,market,museum}/NOUN {because,although}/SCONJ it/PRON {rained,snowed}/VERB ./PUNCT
If/SCONJ the/DET {train,bus,ferry}/NOUN is/AUX {late,full}/ADJ ,/PUNCT {we,they}/PRON {walk,wait}/VERB ./PUNCT
{Paris,Rome,London,Berlin}/PROPN is/AUX {older,larger,warmer,louder}/ADJ than/ADP this/DET {town,village,place}/NOUN ./PUNCT
The/DET {train,bus,road}/NOUN from/ADP {Paris,Rome,London,Vienna}/PROPN to/ADP {Berlin,Madrid,Prague,Oslo}/PROPN {was,is}/AUX {long,slow,busy}/ADJ ./PUNCT
{My,Her,Our}/PRON {sister,brother,uncle}/NOUN {has,had}/AUX {never,already,often}/ADV {seen,painted,crossed}/VERB the/DET {sea,lake,desert}/NOUN ./PUNCT
{His,Their,Your}/PRON {paint,watch,book}/NOUN {is,was}/AUX {new,dry,blue}/ADJ ./PUNCT
{We,They}/PRON {watch/VERB the/DET birds/NOUN,paint/VERB the/DET boats/NOUN,book/VERB the/DET trip/NOUN,watch/VERB the/DET race/NOUN} ./PUNCT
{What,Who}/PRON {made,broke,moved}/VERB the/DET {noise,cup,chair}/NOUN ?/PUNCT
{Where,How}/ADV {did,will}/AUX {she,he,they}/PRON {find,buy,lose}/VERB the/DET {key,ring,map}/NOUN ?/PUNCT
Do/AUX {you,they}/PRON {know,remember,like}/VERB {Anna,Peter,Maria}/PROPN ?/PUNCT
{Please/INTJ close/VERB,Please/INTJ open/VERB,Close/VERB,Open/VERB} the/DET {window,door,gate}/NOUN {quietly,slowly,quickly}/ADV ./PUNCT
{Oh/INTJ,Ah/INTJ} ,/PUNCT what/DET a/DET {lovely,great,strange}/ADJ {song,day,idea}/NOUN !/PUNCT
The/DET {cat,dog,baby}/NOUN {sleeps,plays,waits}/VERB {under,behind,on}/ADP the/DET {warm,old,soft}/ADJ {stove,sofa,blanket}/NOUN ./PUNCT
The/DET {play,show,film}/NOUN {begins,starts,ends}/VERB at/ADP {seven,eight,nine}/NUM ./PUNCT
The/DET {boys,girls,dogs}/NOUN {play,sleep,rest}/VERB {outside,together,here}/ADV ./PUNCT
{Her,His}/PRON {sleep,rest,play}/NOUN {was,is}/AUX {short,deep,quiet}/ADJ ./PUNCT
{She,He}/PRON {said,knew,thought}/VERB that/SCONJ the/DET {answer,plan,story}/NOUN {was,is}/AUX {right,wrong,true}/ADJ ./PUNCT
That/DET {answer,plan,story}/NOUN {sounds,seems,looks}/VERB {right,wrong,easy}/ADJ ./PUNCT
{I,We}/PRON {answer,plan,train}/VERB {carefully,early,well}/ADV ./PUNCT
{Some/DET,All/DET,Many/ADJ,Most/ADJ} {people,students,visitors}/NOUN {love,enjoy,like}/VERB the/DET {view,music,food}/NOUN ./PUNCT
The/DET {students,players,singers}/NOUN {have,had}/VERB to/PART {train,rest,practise}/VERB for/ADP {two,three,six}/NUM {hours,days,weeks}/NOUN ./PUNCT
{Nobody,Everybody,Someone}/PRON {saw,heard,followed}/VERB the/DET {thief,stranger,fox}/NOUN ./PUNCT
The/DET {cook,painter,driver}/NOUN {cooks,paints,drives}/VERB {for/ADP his/PRON friends/NOUN,without/ADP a/DET break/NOUN,with/ADP great/ADJ care/NOUN} ./PUNCT
{They,You}/PRON {cook,break,care}/VERB {too,so}/ADV {often,little,much}/ADV ./PUNCT
The/DET {bread,cake,pie}/NOUN was/AUX {cut,shared,eaten}/VERB by/ADP the/DET {cook,guests,children}/NOUN ./PUNCT
{A,The}/DET {deep,clean,small}/ADJ cut/NOUN {heals,closes}/VERB {quickly,slowly,soon}/ADV ./PUNCT
{Tom,Anna,Leo}/PROPN and/CCONJ {Mia,Peter,Eva}/PROPN will/AUX {travel,fly,move}/VERB to/ADP {Spain,Iceland,Japan}/PROPN ./PUNCT
The/DET {last,first,next}/ADJ {question,lesson,page}/NOUN is/AUX the/DET {hardest,easiest,longest}/ADJ ./PUNCT
{We,You}/PRON {question,face,test}/VERB {every,each}/DET {claim,fact,result}/NOUN ./PUNCT
{Her,His}/PRON {face,hand,nose}/NOUN {turned,grew,felt}/VERB {pale,cold,warm}/ADJ ./PUNCT
"""
SENTENCES = 280


def expand(line: str, chosen: random.Random) -> list[tuple[str, str]]:
    """One sentence of a line: (word, tag) pairs."""
    pairs = []
    for braces, tag, plain in re.findall(r"\{([^}]*)\}(?:/(\w+))?|(\S+)", line):
        part = plain or chosen.choice(braces.split(",")) + (f"/{tag}" if tag else "")
        pairs += [tuple(word.rsplit("/", 1)) for word in part.split()]
    return pairs


def main() -> None:
    """Writes the file into data/."""
    chosen = random.Random(0)
    lines = GRAMMAR.strip().splitlines()
    sentences: dict[str, list[tuple[str, str]]] = {}
    while len(sentences) < SENTENCES:
        for line in lines:
            pairs = expand(line, chosen)
            sentences.setdefault(" ".join(word for word, _ in pairs), pairs)
    kept = list(sentences.values())[:SENTENCES]
    chosen.shuffle(kept)
    with (Path(__file__).parent.parent / "tagged_sentences.jsonl").open("w", encoding="utf-8") as file:
        for pairs in kept:
            row = {"tokens": [word for word, _ in pairs], "upos": [tag for _, tag in pairs]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
