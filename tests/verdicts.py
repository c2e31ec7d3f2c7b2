r"""What counts as right: the table from which test_grading.py makes its tests.

Each entry is one kind of case: the gold answer of a question, answers that are right, and answers that are
wrong. An answer that is right for one gold is often there again as wrong for another: a grader that says yes
to everything, or no, fails on half of the table.
"""
from dataclasses import dataclass

from tasks.grading import score_expressions, score_letters, score_numbers, score_options, score_texts
from tasks.jsonl import score_own

@dataclass(frozen=True)
class Verdicts:
    kind: str
    score: object  # the grader
    gold: str
    right: list
    wrong: list
    options: tuple = ()
    question: str = ""

CAKES = "A cook uses 3 eggs for one cake. How many eggs does the cook use for 5 cakes?"
SPRINTS = "James runs 3 sprints 3 times a week. He runs 60 meters each sprint. How many meters a week?"
WHO = ("Anna", "Ben")
THREE = ("Anna", "Ben", "Carla")
YES = ("yes", "no")
KNOWS = ("know", "don't know")

# -- numbers -------------------------------------------------------------------------------------------------

NUMBERS = [
    Verdicts("the number that a short answer concludes with", score_numbers, "15", [
        "15", "15 eggs.", "3 * 5 = 15", "15 eggs for 5 cakes", "The cook uses 15 eggs for 5 cakes.",
        "Fifteen.", "3 x 5 = 15 eggs. The cook uses 15 eggs for 5 cakes.",
        "3 * 5 = 15\nThe answer is 15.\n\nThe answer is 15.", "3 * 5 = 15 eggs, in 20 minutes",
        "The answer is fifteen.", "fifteen, not 16", "so it is #### 15", "\\boxed{15} for 5 cakes",
        "3 × 5 = **15**", "The result is 15.0", "15 / 1 = 15", "It is $15.00.", "How many eggs? 3 * 5 = 15",
        "Step 1: 3 eggs\nStep 2: 3 * 5 = 15", "15 or fifteen"], [
        "", "16", "3 * 5", "3 * 5 = 16", "I do not know", "3 eggs and 5 cakes", "twenty-five",
        "No one knows", "one hundred eggs", "fifteen hundred eggs", "The answer is 3 * 5.", "15 * 2", "-15",
        "1.5", "150", "15 + 5 = 20", "3 * 5 = 15 * 2 = 30", "15.5"], question=CAKES),
    Verdicts("what is announced", score_numbers, "15", [
        "The answer is: 15, for 5 cakes", "The answer to 3 * 5 is 15", "The answer for 5 cakes is 15.",
        "answer for 5 cakes: 15", "The answer to 1.5 + 2 is 15", "The answer of 15 is right for 5 cakes",
        "The answer 15 is for 5 cakes", "The answer would be 15 for 5 cakes", "The answer:\n- 15 eggs",
        "To answer this, add 5 and 3 to get 8. Then take 2, which leaves 15.", "Final answer - 15",
        "The answer: - 15", "I am happy to answer: 15, for 3 eggs and 5 cakes", "The answer is 3 * 5 = 15.",
        "ANSWER: 15", "Answer: 15\n\n(5 cakes)"], [
        "The answer is 5, for 15 eggs", "The answer is - 15.", "3 - 18 = - 15", "The answer is minus 15.",
        "The answer to 15 is 3", "Answer: 5\n\n(15 eggs)", "#### 5 of 15"], question=CAKES),
    Verdicts("said outright, whatever equation comes after", score_numbers, "15", [
        "The answer is 15, because 20 - 5 = 15 and 18 / 6 = 3.",
        "The answer is 15. Each cake takes 15 / 5 = 3.", "#### 15\n(check: 15 / 5 = 3)",
        "\\boxed{15}, and 15 + 5 = 20", "Answer: 15. Proof: 15 / 3 = 5.", "3 * 5 = 15. Check: 15 / 5 = 3.",
        "3 * 5 = 15\nVerification: 15 / 3 = 5", "The answer is 15 = 3 * 5"], [
        "The answer is 8. 3 * 5 = 15", "#### 8, since 20 - 5 = 15", "15. The answer is 8.",
        "3 * 5 = 15. \\boxed{8}"], question=CAKES),
    Verdicts("what a later sentence concludes", score_numbers, "540", [
        "She does 3 * 3 = 9 laps. A lap is 60 m, so she swims 540 metres.",
        "3 * 3 = 9 sprints. He runs 540 meters.", "3 x 3 = 9 sprints, so he runs 540 meters a week.",
        "He sprints 3 * 3 = 9 times. That makes 540 meters.", "3 * 3 = 9\n\nTotal: 540 meters",
        "3 * 3 = 9 sprints. Each is 60 meters. Therefore James runs 540 meters.",
        "3 * 3 = 9 and 9 * 60 = 540.", "9 * 60 = 540 meters. He runs 3 times a week.",
        "9 * 60 = 540 meters, which is far.", "9 * 60 = 540. James runs 540 meters in 9 sprints.",
        "3 * 3 = 9 sprints. The answer is 540.", "3 * 3 = 9; hence 540 in total"], [
        "3 * 3 = 9 sprints. The rest is easy.", "9 * 60 = 540. So he runs 600 meters.",
        "3 * 3 = 9, so 9 sprints", "540 / 9 = 60. He runs 180 meters a day.", "9 * 60 = 540 meters, or 600."],
        question=SPRINTS),
    Verdicts("an equation that is followed by nothing new", score_numbers, "9", [
        "3 * 3 = 9 sprints of 60 meters.", "3 * 3 = 9. He runs 3 times a week, 60 meters each.",
        "6 + 3 = 9. Step 2: he runs 60 meters.", "3 * 3 = 9\n1. He runs 60 meters.",
        "3 * 3 = 9. So 9 sprints."], [
        "3 * 3 = 9. He runs 540 meters.", "3 * 3 = 9, so 540 meters"], question=SPRINTS),
    Verdicts("chains of equations, and what stands on their left", score_numbers, "6", [
        "5 - 3 = 2, and 2 + 4 = 6", "3 * 2 = 6", "2 * 3 = 3 * 2 = 6", "6 = 2 + 4", "x = 6",
        "2 eggs * 3 cakes = 6 eggs", "x >= 2, so x = 6", "2 + 4 == 6"], [
        "6 - 3 = 3", "6 / 2 = 3 eggs", "x = 2 * 3", "6 != 5, x = 5", "6 + 1 = 7"]),
    Verdicts("two answers are none", score_numbers, "5", [
        "5", "Is it 5 or 6? It is 5.", "5 or 5.0", "Between 4 and 6 lies 5", "3 + 2 = 5 and not 6",
        "5 apples and 6 pears, so the answer is 5"], [
        "5 or 6", "either 5 or 6", "6 or 5", "The answer is 5 or 6.", "The answer is either 5 or 6 apples.",
        "between 5 and 6", "5 apples or 6", "5 apples or 6 apples", "5, 6", "4, 5, 6", "5 to 6", "5-6",
        "5 – 6", "5 and 6", "5 (or 6)", "5, or maybe 6", "3 + 2 = 5 or 6", "\\boxed{5} or \\boxed{6}",
        "The answer is 5 or the answer is 6", "5/6", "**5** or **6**", "at least 5",
        "The answer is more than 5.", "5 or 6?"]),
    Verdicts("a denied number does not count", score_numbers, "6", [
        "The answer is not 5 but 6.", "It is not 5; it is 6.", "The answer isn't 5, it's 6.", "6, not 5",
        "6 rather than 5", "6 instead of 5", "5 is wrong. It is 6.", "5 isn't right: 6", "5. No, wait: 6.",
        "5, no, 6", "The answer is 6, not 5.", "The answer is not 4 or 5 but 6", "x ≠ 5, x = 6",
        "The wrong answer is 5, and 6 is right", "It cannot be 5. So it is 6.", "Not 5. 6."], [
        "not 6", "5, not 6", "It is not 6 but 5.", "6 is wrong", "6. No, wait: 5.",
        "6 is not correct. It must be 5.", "5 rather than 6", "The answer isn't 6.", "neither 5 nor 6"]),
    Verdicts("one spelling of minus, digits and spaces", score_numbers, "-10", [
        "-10", "\u221210", "\u201310", "\uff0d10", "－１０", "= - 10", "The answer is minus 10.",
        "negative 10", "x=-10", "-10.0", "-$10", "$-10", "-\u200b10",
        "The answer is \u221210\u00a0degrees"], [
        "10", "1 - 10", "20-10 = 10", "is\u201410", "A-10", "--10", "The answer is —10"]),
    Verdicts("digits in groups", score_numbers, "150000", [
        "Rs 1,50,000", "150,000", "150 000", "It has 150 000 people.", "150\u202f000 people",
        "150\u00a0000 people", "150'000", "150’000", "150_000", "150{,}000", "150\\,000", "₹1,50,000.00",
        "15 × 10^4", "1.5 × 10⁵", "1.5e5", "150,000.0", "１５０，０００", "$150,000"], [
        "50000", "1,50,00", "150", "150, 000", "1,500,00", "15,0000", "1,50,001", "150.000"]),
    Verdicts("lakhs, crores and millions in groups", score_numbers, "12345678", [
        "1,23,45,678", "12,345,678", "12 345 678", "They sold 12 345 678 copies.", "12\u2009345\u2009678",
        "12'345'678", "12.345.678"], [
        "1,23,45,679", "12, 345, 678", "12345 678", "1,2,3,4,5,6,7,8"]),
    Verdicts("a list is no number in groups", score_numbers, "3", [
        "1, 2 and then 3 = 3", "The answer is 3"], [
        "1, 2, 3", "1,2,3", "1 2 3", "3,000", "3 000", "The answer is 3, 4"]),
    Verdicts("fractions, halves", score_numbers, "0.5", [
        "1/2", "½", "\\frac12", "\\boxed{\\frac12}", "\\frac{1}{2}", "\\dfrac{1}{2}", "\\tfrac12",
        "\\frac 1 2", "\\frac1{2}", "1⁄2", "¹⁄₂", ".5", "0.50", "\\frac{2}{4}", "{1 \\over 2}",
        "-\\frac{-1}{2}", "0.5 or 1/2"], [
        "12", "1", "2", "-1/2", "\\frac{-1}{2}", "\\frac21", "1 1/2", "1½", "5", "1/2/3"]),
    Verdicts("fractions, less than nothing", score_numbers, "-0.5", [
        "\\boxed{\\frac{-1}{2}}", "-\\frac{1}{2}", "\\frac{1}{-2}", "-1/2", "-½", "\u2212½", "= - 1/2"], [
        "1/2", "-1", "½", "\\frac{-1}{-2}"]),
    Verdicts("fractions, mixed", score_numbers, "1.625", [
        "1⅝", "1 5/8", "1\\frac58", "1\\frac{5}{8}", "1 \\tfrac{5}{8}", "13/8", "1 5⁄8", "1 and 5/8"], [
        "15/8", "1", "5/8", "⅝", "1.58"]),
    Verdicts("fractions, quarters and eighths", score_numbers, "3/4", [
        "3⁄4", "¾", "3/4", "0.75", "6/8", "\\cfrac{3}{4}", "75/100"], [
        "4", "3", "34", "⅜", "4/3"]),
    Verdicts("an eighth", score_numbers, "0.125", [
        "⅛", "1/8", "\\frac18", ".125", "0.125"], [
        "8", "18", "1", "0.12"]),
    Verdicts("a division not yet done is no number", score_numbers, "12", [
        "12", "24/2 = 12"], [
        "24/2", "12/4", "\\frac{12}{4}", "24 / 2"]),
    Verdicts("integers are exact", score_numbers, "9007199254740993", [
        "9007199254740993", "9,007,199,254,740,993", "9007199254740993.0", "9 007 199 254 740 993"], [
        "9007199254740992", "9007199254740994", "9.007199254740993e14", "9007199254740993.5",
        "9.00719925474099e15"]),
    Verdicts("decimals are exact", score_numbers, "0.3", [
        "0.3", "0.30", ".3", "3/10"], [
        "0.30000000000000004", "0.29999999999999999", "1/3", "0.33"]),
    Verdicts("long chains", score_numbers, "360", [
        "5 cakes * 3 eggs = 15 eggs * 24 hours = 360"], [
        "360 = 15", "5 * 72"], question=CAKES),
    Verdicts("an equation may end in the question's number", score_numbers, "8", [
        "3 + 5 = 8", "8 of 5 cakes", "8 million"], [
        "3 + 5", "8 + 5 = 13"], question=CAKES),
    Verdicts("a price that is announced", score_numbers, "1200", [
        "= $1,200 for 5", "$1,200.00"], [
        "= $1,20 for 5", "$12.00"], question=CAKES),
    Verdicts("a number of the question, where there is no other", score_numbers, "5", [
        "3 eggs and 5 cakes", "5 cakes"], [
        "3 eggs", "5 cakes or 3", "5 cakes, 15 eggs"], question=CAKES),
    Verdicts("currencies and percents in a plain number", score_numbers, "18", [
        "$18.00", "€18", "18 %", "18%", "18 dollars", "\\$18", "$18$", "US$18"], [
        "$1.80", "1.8", "$180", "18 * 2"]),
]

# -- options -------------------------------------------------------------------------------------------------

OPTIONS = [
    Verdicts("the option that a short answer concludes with", score_options, "Ben", [
        "Ben", "BEN!", "Ben is taller than Anna.", "Of Anna and Ben, the taller is Ben.",
        "It is Ben, not Anna", "**Ben**", '"Ben"', "Anna is 5. The answer is Ben.",
        "The answer to whether Anna or Ben is taller is Ben", "\\boxed{Ben}", "_Ben_", "It's Ben",
        "To answer this, compare Anna and Ben: it is Ben", "Anna or Ben? Ben", "The answer: Ben",
        "Ben, Ben.", "Anna = 5, Ben = 6: the answer is Ben"], [
        "Anna", "neither", "", "Benny", "Anna is taller than Ben", "The answer is Anna, and Ben is 5",
        "Reuben", "Carla", "be n"], WHO),
    Verdicts("two options are none", score_options, "Ben", [
        "Is it Anna or Ben? It is Ben.", "Anna or Ben? The answer is Ben.",
        "Who is taller, Anna or Ben? Ben.", "Ben (Anna is shorter)", "Ben; Anna is shorter",
        "Ben, Anna is shorter", "Anna and Ben are tall. The answer is Ben."], [
        "Ben or Anna", "Anna or Ben", "Ben and Anna", "Ben/Anna", "Ben / Anna", "Ben & Anna", "Ben, Anna",
        "Ben Anna", "Ben\nAnna", "The answer is Ben or Anna.", "Either Ben or Anna",
        "It is Ben or maybe Anna", "Ben. Anna.", "both Ben and Anna", "Ben or Anna?",
        "Ben, or possibly Anna", "**Ben** or **Anna**", "Ben, but Anna could also be right",
        "Ben, but it could be Anna", "Ben vs. Anna", "Neither Ben nor Anna", "maybe Ben, maybe Anna",
        "Ben + Anna", "The answer is Ben. Or Anna.", "1. Ben\n2. Anna", "- Ben\n- Anna"], WHO),
    Verdicts("the whole list is no choice", score_options, "Anna", [
        "Anna", "Anna is older than Ben and Carla", "Anna, Ben or Carla? Anna",
        "I choose from Anna, Ben or Carla. Anna."], [
        "Anna, Ben or Carla", "Anna, Ben, Carla", "Anna, Ben and Carla", "Anna, Ben", "Anna or Carla",
        "The answer is Anna, Ben, Carla."], THREE),
    Verdicts("yes and no", score_options, "yes", [
        "yes", "Yes.", "Yes, no doubt.", "Yes, there is no other", "The answer is yes.",
        "Yes: ice is not hot", "yes, yes", "“Yes”", "Is it cold? Answer yes or no. Yes."], [
        "no", "yes and no", "Yes and no.", "yes/no", "yes or no", "Yes or no?", "Yes. No.", "no, yes",
        "maybe", "yesterday", "not yes"], YES),
    Verdicts("a denied option does not count", score_options, "Anna", [
        "The taller is Anna, not Ben.", "Not Ben but Anna.", "It isn't Ben; it's Anna",
        "It is not Ben. It is Anna.", "Anna rather than Ben", "Anna instead of Ben",
        "Unlike Ben, Anna is tall", "Ben is wrong. It must be Anna.", "Ben is not the answer, Anna is",
        "Ben. No, Anna.", "Ben, wait, Anna", "It cannot be Ben, so Anna", "It can't be Ben: Anna",
        "Ben is incorrect: Anna", "Rule out Ben. Anna.", "The wrong answer is Ben. Anna.",
        "As opposed to Ben, Anna", "The answer is not Ben but Anna", "Ben is ruled out, so Anna is it"], [
        "not Anna", "Ben, not Anna", "Not Anna but Ben", "It isn't Anna", "Anna is wrong. It is Ben.",
        "Ben rather than Anna", "Unlike Anna, Ben", "Anna. No, Ben.", "The answer is not Anna.",
        "Anna is not the right answer", "neither Anna nor Ben", "not Anna or Ben"], WHO),
    Verdicts("what only sounds like a denial", score_options, "dog", [
        "The dog is not a kind of fruit", "dog does not belong", "The one that does not belong is dog",
        "It is not an apple but a dog", "not apple or pear but dog"], [
        "apple is not a kind of dog", "not a dog"], ("apple", "pear", "dog")),
    Verdicts("Chinese has no spaces", score_options, "北京", [
        "答案是北京。", "北京", "首都是北京，不是上海", "“北京”", "答案：北京", "北京是首都",
        "不是上海，是北京"], [
        "上海", "北京或上海", "北京和上海", "北京、上海", "不是北京", "答案是上海。", "东京"],
        ("北京", "上海")),
    Verdicts("nor has Japanese", score_options, "東京", [
        "答えは東京です。", "東京です", "東京！"], [
        "大阪です", "東京か大阪", "東京または大阪"], ("東京", "大阪")),
    Verdicts("nor has Thai", score_options, "กรุงเทพ", [
        "คำตอบคือกรุงเทพครับ", "กรุงเทพ"], [
        "เชียงใหม่", "คำตอบคือเชียงใหม่ครับ"], ("กรุงเทพ", "เชียงใหม่")),
    Verdicts("Korean hangs particles on a word", score_options, "서울", [
        "정답은 서울입니다.", "서울"], [
        "부산입니다", "서울 또는 부산"], ("서울", "부산")),
    Verdicts("the longest option where none has an edge", score_options, "东京", [
        "东京", "是东京。"], [
        "京", "是东京都"], ("京", "东京", "东京都")),
    Verdicts("a vowel sign is inside a word", score_options, "दिल", [
        "दिल", "उत्तर दिल है"], [
        "दिल्ली", "उत्तर दिल्ली है"], ("दिल", "दिल्ली")),
    Verdicts("options are whole words", score_options, "cat", [
        "cat", "the cat.", "cat-like: cat"], [
        "concatenate", "cats", "category", "wildcat", "cat2"], ("cat", "dog")),
    Verdicts("and accents are letters", score_options, "cafe\u0301", [
        "café", "CAFÉ", "cafe\u0301", "the café."], [
        "cafe", "cafés", "caf"], ("café", "tea")),
    Verdicts("the longer option that begins alike", score_options, "Anna", [
        "ANNA", "it is Anna"], [
        "Ann", "ann, no: ANN."], ("Ann", "Anna")),
    Verdicts("an option may hold a denial", score_options, "don't know", [
        "don’t know", "I don't know", "don\u02bct know", "They don‘t know.", "The answer is “don’t know”"], [
        "know", "I know", "don’t", "They know."], KNOWS),
    Verdicts("and its opposite is no part of it", score_options, "know", [
        "know", "they know"], [
        "don't know", "don’t know", "I don\u02bct know"], KNOWS),
    Verdicts("one spelling of dashes and spaces", score_options, "ice-cold", [
        "ice-cold", "ice\u2011cold", "ice\u2010cold", "ice–cold"], [
        "ice cold", "cold", "icecold"], ("ice-cold", "hot")),
    Verdicts("spaces that do not break", score_options, "New York", [
        "New\u00a0York", "New York", "ＮＥＷ ＹＯＲＫ", "new\u202fyork"], [
        "York", "New", "NewYork"], ("New York", "York")),
    Verdicts("an option that is a number does not stand in another", score_options, "3", [
        "3", "3.", "3.00", "It is 3."], [
        "3.5", "3,000", "-3", "2.3", "30", "13", "3 or 30"], ("3", "30", "300")),
    Verdicts("options below nothing", score_options, "-5", [
        "-5", "\u22125", "It is - 5", "\u20135"], [
        "5", "-50", "-5.5"], ("5", "-5")),
    Verdicts("options with units", score_options, "5 km", [
        "It is 5 km", "5 km", "5\u00a0km"], [
        "It is 2.5 km", "10 km", "5 km or 10 km", "15 km"], ("5 km", "10 km")),
    Verdicts("options in dollars", score_options, "12", [
        "It is $12.00.", "12", "6 + 6 = 12"], [
        "12.05", "15", "112", "12 - 15"], ("12", "15")),
    Verdicts("an option that holds an and", score_options, "wolf and camel", [
        "wolf and camel", "The wolf and camel.", "It is wolf and camel, not tram and fig"], [
        "wolf", "tram and fig", "wolf and camel or tram and fig"], ("wolf and camel", "tram and fig")),
]

# -- letters -------------------------------------------------------------------------------------------------

LETTERS = [
    Verdicts("the letter that an answer chooses", score_letters, "B", [
        "the answer is (B)", "B) a dog", "the answer is (b)", "The answer is **B**.", "The Answer is B",
        "Answer is B", "Answer: B", "**B**", "[B]", "$B$", "\\boxed{\\text{B}}", "<answer>B</answer>",
        "Option B is correct", "The correct answer is option B.", "I choose B", "The correct choice is (b)",
        "(B) because (A) is wrong", "Plants need light.\n\nB", "B) sunlight. Option A is wrong",
        "The answer is (B). Option A is wrong", "The answer is: 2.",
        "the answer is (A). No: the answer is (B)", "B", "B.", "2", "It must be B.", "It's B.", "I'd say B",
        "The answer is most likely B.", "Answer - B", "So, B", "Correct: B"], [
        "", "I think so", "C", "A dog barks", "The answer is a bad one", "A's", "The answer is Bees",
        "b) a dog", "The answer is 2.5 km", "I pick 2 apples", "the answer is (B). No: the answer is (A)",
        "AB", "Vitamin B", "B's"]),
    Verdicts("the third letter or key", score_letters, "C", [
        "(C)", "The answer is: 3.", "[C]", "Option C is correct"], [
        "(D)", "The answer is: 3 dogs", "3.5"]),
    Verdicts("the fourth", score_letters, "D", [
        "the answer is (A). No: the answer is (D)", "\\boxed{\\text{D}}", "The correct choice is (d)"], [
        "the answer is (D). No: the answer is (A)", "The answer is Dogs"]),
    Verdicts("the fifth", score_letters, "E", [
        "<answer>E</answer>", "5", "(e)"], [
        "<answer>5 dogs</answer>", "e"]),
    Verdicts("a capital A that begins", score_letters, "A", [
        "A dog barks", "A) a dog"], [
        "a) a dog", "A's", "I pick 3 apples"]),
    Verdicts("an article is no letter", score_letters, "A", [
        "A", "(a)", "The answer is A", "Answer: (A) iron"], [
        "a dog", "The answer is a chemical reaction", "It is a plant", "a"]),
    Verdicts("two letters are none", score_letters, "B", [
        "Is it A or B? It is B.", "A or B? The answer is B.", "B - sunlight", "B, because of A's rain",
        "The answer is B. It is not A or C."], [
        "A or B", "B or A", "The answer is B or C.", "The answer is either B or C.", "B and C",
        "Both B and C", "B/C", "B / C", "B, C", "B & C", "A, B, C, D", "A B C D", "(B) or (C)",
        "B) sun or C) moon", "**B** or **C**", "2 or 3", "The answer is B, or maybe C", "B\nC",
        "The answer is B and C", "B or C?", "I choose B or C", "The answer is B, but C could also be right"],
        ),
    Verdicts("a denied letter does not count", score_letters, "C", [
        "Option A is wrong. It must be C.", "Not A but C.", "The answer is not A but C.",
        "It isn't A. The answer is C.", "C, not A", "The answer is C rather than A.",
        "A is incorrect. C is right.", "It cannot be A. So it is C.", "A and B are wrong; it's C",
        "Rule out A and B. Answer: C", "Unlike A, C is right", "A is not correct.\nC",
        "The answer is not A, B or D. It is C.", "The wrong answer is A. The answer is C", "A. No, C.",
        "(A) is false. (C)"], [
        "not C", "A, not C", "The answer is not C.", "Option C is wrong. It must be A.", "It isn't C",
        "C is wrong", "C is not the answer", "neither A nor C", "C. No, A.",
        "The answer is A rather than C."]),
    Verdicts("marks around a letter", score_letters, "D", [
        "The answer is “D”", "The answer is “d”", 'The answer is "D".', "The answer is 'D'.",
        "The answer is ‘D’", "«D»", "`D`", "The answer is „D“.", "(D).", "*D*", "__D__", "Ｄ",
        "The answer is：D", "[D]", "{D}", "4"], [
        "“A”", "'D's", "The answer is “Dogs”", "Dodo", "“A” or “D”"]),
]

# -- a user's own rows ---------------------------------------------------------------------------------------

OWN = [
    Verdicts("own percents", score_own, "50%", [
        "50%", "50 %", "50.0%", "It is 50%.", "50 percent", "50 per cent", "50", "**50%**", "50\u00a0%",
        "50\\%", "½ of it is 50%", "5 / 10 = 50%"], [
        "5%", "0.5", "50 km", "50.5%", "", "50% or 60%", "not 50%", "fifty", "50$"],
        question="How much is it?"),
    Verdicts("own lengths", score_own, "5 km", [
        "5km", "5 km", "The distance is 5 km.", "5.0 km", "5 kilometers", "5 Kilometres", "5 km away", "5",
        "It is 5.", "**5 km**", "5\\text{ km}", "5\u202fkm", "５ km", "5 KM", "5 km, I think",
        "2 km + 3 km = 5 km"], [
        "5 miles", "5 m", "6 km", "5 km/h", "5 km²", "5 square km", "5 cubic km", "5 km per hour", "$5",
        "5 or 6 km", "", "Lima", "5000 m", "-5 km", "5 kg"], question="How far is it?"),
    Verdicts("own speeds", score_own, "60 km/h", [
        "60 km/h", "60 km per hour", "60 kilometers per hour", "60", "60km/h", "60 km / h"], [
        "60 km", "60 mph", "60 miles per hour", "60 h", "60 km/s"]),
    Verdicts("own areas", score_own, "9 m²", [
        "9 m²", "9 m^2", "9 square meters", "9 sq m", "9"], [
        "9 m", "9 m³", "9 cm²", "3 m²"]),
    Verdicts("own temperatures", score_own, "20 °C", [
        "20 °C", "20°C", "20 ℃", "20 degrees Celsius", "20"], [
        "20 °F", "20 K", "-20 °C", "20 degrees Fahrenheit"]),
    Verdicts("own money", score_own, "$5", [
        "$5", "5 dollars", "$5.00", "5", "It costs $5.", "5 USD", "\\$5", "5 $"], [
        "€5", "5 euros", "$50", "5 cents", "£5", "5%"]),
    Verdicts("own times", score_own, "2 hours", [
        "2 hours", "2 h", "2 hrs", "2 hours.", "2", "It takes 2 hours."], [
        "2 minutes", "2 days", "3 hours", "2 h or 3 h", "2 hours or 3"]),
    Verdicts("own counts", score_own, "5 apples", [
        "5 apples", "5", "She has 5 apples now.", "5 apple"], [
        "5 pears", "6 apples", "apples", "5 km"]),
    Verdicts("own half cups", score_own, "1/2 cup", [
        "½ cup", "0.5 cup", "1/2 cup", "\\frac12 cup"], [
        "1 cup", "2 cups", "1/2 liter", "1/4 cup"]),
    Verdicts("a title is no quantity", score_own, "12 Angry Men", [
        "12 Angry Men", "“12 Angry Men”"], [
        "12", "12 men", "Angry Men"]),
    Verdicts("nor is an ordinal or a grade", score_own, "3D", [
        "3D", "3d", "**3D**"], [
        "3", "D", "3 D"]),
    Verdicts("own numbers", score_own, "1500", [
        "1500 dollars", "1,500", "1 500", "It is 1500.0", "1500"], [
        "15", "1.5", "1500.5", ""], question="How much?"),
    Verdicts("own large numbers", score_own, "12345678901", [
        "12,345,678,901", "12345678901"], [
        "12,345,678,902", "1.23e10"]),
    Verdicts("marks around a text", score_texts, "Lima", [
        "**Lima**", '"Lima"', "Lima.", "lima", " Lima ", "“Lima”", "‘Lima’", "«Lima»", "*Lima*", "_Lima_",
        "`Lima`", "(Lima)", "[Lima]", "\\boxed{Lima}", "\\text{Lima}", "**Lima.**", "“Lima.”",
        "<answer>Lima</answer>", "Lima!", "LIMA", "Ｌｉｍａ", "Lima。", "$Lima$", "Li\u00adma",
        "“**Lima**”"], [
        "", "Lim", "Limas", "Lima, I think", "Lima or Cusco", "Lima Lima", "Cusco", "not Lima", "Li ma",
        "**", '""', "L*i*ma"]),
    Verdicts("one spelling of a text", score_texts, "L'été à São-Paulo", [
        "L’été à São-Paulo", "L'e\u0301te\u0301 a\u0300 Sa\u0303o-Paulo", "l'été à São\u2011Paulo.",
        "L'été\u00a0à São–Paulo", "L'été  à São-Paulo"], [
        "L'ete a Sao-Paulo", "Lété à São-Paulo", "L'été à São Paulo"]),
    Verdicts("marks that are the text", score_texts, "?", [
        "?", "“?”"], [
        "", "!", "??", " "]),
    Verdicts("signs that are not around a text", score_texts, "C++", [
        "C++", "c++", "`C++`", "C++."], [
        "C", "C+", "C#", "++"]),
    Verdicts("stars inside a text", score_texts, "a*b", [
        "a*b", "`a*b`"], [
        "ab", "a b", "*ab*"]),
    Verdicts("brackets inside a text", score_texts, "f(x)", [
        "f(x)", "$f(x)$", "F(x)."], [
        "f", "fx", "x"]),
]

# -- LaTeX, which math-verify reads --------------------------------------------------------------------------

LATEX = [
    Verdicts("expressions by their value", score_expressions, "we get $\\boxed{\\frac{1}{2}}.$", [
        "so it is $\\boxed{\\frac{1}{2}}$", "The answer is $0.5$.", "\\boxed{\\dfrac12}", "$\\frac{2}{4}$",
        "$\\boxed{.5}$", "½", "The answer is 1⁄2.", "$\\boxed{0.50}$"], [
        "2", "", "$\\boxed{\\frac{-1}{2}}$", "$\\boxed{2}$", "12", "\\boxed{\\frac12} or \\boxed{\\frac13}"],
        ),
    Verdicts("two numbers are none in LaTeX, too", score_expressions, "$\\boxed{5}$", [
        "$\\boxed{5}$", "The answer is 5.", "Is it 4 or 5? It is $\\boxed{5}$.",
        "The answer is not 6 but 5."], [
        "The answer is 5 or 6.", "$\\boxed{5}$ or $\\boxed{6}$", "The answer is not 5 but 6.",
        "$\\boxed{6}$"]),
    Verdicts("a list is an answer where the gold one is a list", score_expressions, "$\\boxed{1, 2}$", [
        "$\\boxed{1, 2}$", "$\\boxed{1,2}$"], [
        "$\\boxed{1}$", "$\\boxed{1, 3}$"]),
    Verdicts("integers in LaTeX are exact", score_expressions, "$\\boxed{9007199254740993}$", [
        "$\\boxed{9007199254740993}$"], [
        "$\\boxed{9007199254740992}$"]),
    Verdicts("letters in LaTeX", score_expressions, "$\\boxed{x^2 - y}$", [
        "$\\boxed{-y + x^2}$", "$x^2-y$"], [
        "$\\boxed{x^2 + y}$", "$\\boxed{x - y}$"]),
]

VERDICTS = [*NUMBERS, *OPTIONS, *LETTERS, *OWN, *LATEX]
